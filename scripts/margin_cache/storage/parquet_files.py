"""Opens Parquet files; an error names the file."""

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError, RetryableError

_TRANSIENT_ERRNO = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOMEM}
"""Errors of the system that say nothing about the file itself."""

TAIL_BYTES = 8
"""The end of a Parquet file: the length of its footer and the magic number."""

MAGIC = b"PAR1"

READ_BYTES = 1 << 20
"""Buffer for each column; without it, PyArrow loads the chunks of a row group whole."""


def open_parquet(
    path: Path | str, source: pa.NativeFile | None = None, footer: bytes | None = None
) -> pq.ParquetFile:
    """Open a Parquet file to read with one thread and little memory.

    ``path`` is for messages only if ``source``, the open file, is given. ``footer`` is the end of
    the file, if it was read before.
    """
    try:
        if source is None:
            source = pa.OSFile(str(path))
        metadata = None if footer is None else pq.read_metadata(pa.BufferReader(MAGIC + footer))
        return pq.ParquetFile(source, metadata=metadata, pre_buffer=False, buffer_size=READ_BYTES)
    except FileNotFoundError:
        raise MarginCacheError(f"{path}: no such file.") from None
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None


def footer_start(tail: bytes, size: int) -> int:
    """Return where the footer of a file of this size begins, by the file's last bytes.

    If it is no Parquet file, return the start of the tail: opening the file reports the error.
    """
    length = int.from_bytes(tail[:4], "little")
    tail_start = size - TAIL_BYTES
    return tail_start - length if length <= tail_start else max(0, tail_start)


def unreadable(path: Path | str, error: BaseException) -> MarginCacheError:
    """Return the error for a file that could not be read."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return RetryableError(f"{path}: cannot be read ({reason}). Check the disk or file server.")
    return MarginCacheError(f"{path}: cannot be read ({reason}). Copy the file again.")
