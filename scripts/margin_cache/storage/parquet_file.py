"""Opening of Parquet files, and what is said of one that cannot be read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError


def open_parquet(path: Path, source: pa.NativeFile | None = None) -> pq.ParquetFile:
    """Open a Parquet file for reading with one thread and little memory.

    Args:
        path: the file.
        source: the same, if it is open already.

    Raises:
        MarginCacheError: it is missing, unreadable, or not a whole Parquet file.
    """
    try:
        return pq.ParquetFile(source or path, pre_buffer=False)
    except FileNotFoundError:
        raise MarginCacheError(f"{path}: there is no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: BaseException) -> MarginCacheError:
    """Return the error that says that a file could not be read, and why."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return MarginCacheError(f"{path}: cannot be read ({reason}); copy it again")
