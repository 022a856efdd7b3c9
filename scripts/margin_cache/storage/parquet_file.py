"""Opening of Parquet files, and what is said of one that cannot be read."""

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.files import check_ordinary
from margin_cache.storage.missing_parts import fetch_footer
from margin_cache.storage.parquet_footer import problem_of_columns

_OF_THE_MACHINE = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOMEM}
"""Errors of the system that say nothing about the file itself."""

READ_BYTES = 1 << 20
"""What is read of a column at once; PyArrow would have all of a row group's in memory."""

_ENCRYPTED = "encrypted metadata"
"""What PyArrow says of an encrypted footer."""


def open_parquet(path: Path, source: pa.NativeFile | None = None) -> pq.ParquetFile:
    """Open a Parquet file for reading with one thread and little memory.

    Args:
        path: the file.
        source: the same, if it is open already.

    Raises:
        MarginCacheError: it is missing, unreadable, not a whole Parquet file, encrypted, or
            compressed in an unknown way.
    """
    check_ordinary(path)
    try:
        if source is None:
            fetch_footer(path)
            source = pa.OSFile(str(path))
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=READ_BYTES)
        problem = problem_of_columns(source, file)
    except FileNotFoundError:
        raise MarginCacheError(f"{path}: there is no such file") from None
    except (pa.ArrowException, OSError) as error:
        if _ENCRYPTED in str(error):
            raise MarginCacheError(
                f"{path}: is encrypted, which is not read here; write the catalog again without "
                "encryption"
            ) from None
        raise unreadable(path, error) from None
    if problem:
        raise MarginCacheError(f"{path}: {problem}; write the catalog again in another way")
    return file


def unreadable(path: Path, error: BaseException) -> MarginCacheError:
    """Return the error that says that a file could not be read, and why."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return RetryableError(f"{path}: cannot be read ({reason}); is its disk or server at work?")
    return MarginCacheError(f"{path}: cannot be read ({reason}); copy it again")
