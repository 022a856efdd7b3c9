"""Opens Parquet files safely."""

import errno
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.local_listing import TAIL_BYTES, fetch_footer

_TRANSIENT_ERRNO = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOMEM}
"""Errors of the system that say nothing about the file itself."""

READ_BYTES = 1 << 20
"""Buffer for each column; without it, PyArrow loads the chunks of a row group whole."""

_UNKNOWN_CODEC = re.compile(
    rb"\x15(?:[^\x00\x02\x04\x06\x08\x0a\x0c\x0e\x80-\xff]|[\x80-\xff]+[\x00-\x7f])"
    rb"(?:\x16[\x80-\xff]*[\x00-\x7f]){3}[\x19\x26]",
    re.DOTALL,
)
"""A codec other than the eight known ones: between its field header and three numbers that every
column has. Other bytes can match by chance."""

_ASK_ALL_COLUMNS = """
import sys, pyarrow.parquet
footer = pyarrow.parquet.read_metadata(sys.argv[1])
for number in range(footer.num_row_groups):
    footer.row_group(number).to_dict()
"""

_DATA_PAGE_V2 = b"\x15\x06"
"""The first field of a page header: the type of the page (Thrift's compact protocol)."""


def open_parquet(path: Path, source: pa.NativeFile | None = None) -> pq.ParquetFile:
    """Open a Parquet file, or an open `source` of it, to read with one thread and little memory.

    Raises:
        MarginCacheError: it is missing, unreadable, truncated, encrypted, or has an unknown codec.
    """
    try:
        if source is None:
            fetch_footer(path)
            source = pa.OSFile(str(path))
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=READ_BYTES)
        if not _kills_the_process(path, source, file):
            return file
    except FileNotFoundError:
        raise MarginCacheError(f"{path}: no such file.") from None
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    raise MarginCacheError(
        f"{path}: a column is encrypted or has an unknown codec, or the footer is damaged. "
        "Copy the file again, or write the catalog again."
    )


def unreadable(path: Path, error: BaseException) -> MarginCacheError:
    """Return the error for a file that could not be read."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return RetryableError(f"{path}: cannot be read ({reason}). Check the disk or file server.")
    return MarginCacheError(f"{path}: cannot be read ({reason}). Copy the file again.")


def _kills_the_process(path: Path, source: pa.NativeFile, file: pq.ParquetFile) -> bool:
    """Return whether PyArrow ends the process when it is asked about a column.

    It does for columns that are encrypted or have an unknown codec. A quick search in the footer
    decides whether a second process has to try.
    """
    end = source.size() - TAIL_BYTES
    length = int.from_bytes(source.read_at(4, end), "little")
    # Files with encrypted columns have a signature in the footer, which PyArrow does not count.
    is_signed = file.metadata.serialized_size != length
    if not is_signed and not _UNKNOWN_CODEC.search(source.read_at(length, end - length)):
        return False
    # Slow to import, and hardly ever needed.
    import subprocess

    command = [sys.executable, "-c", _ASK_ALL_COLUMNS, str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode < 0
