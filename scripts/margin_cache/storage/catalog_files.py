"""Where the files of a catalog are: a local directory, or a URL (`remote_files`).

Files are named by their paths relative to the catalog.
"""

import errno
import os
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.urls import is_url

MAGIC = b"PAR1"
TAIL_BYTES = 8  # the end of a Parquet file: the length of its footer and the magic number
READ_BYTES = 1 << 20  # for each column; without it, PyArrow loads the chunks of a row group whole

_TRANSIENT_ERRNO = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOMEM}
"""Errors of the system that say nothing about the file itself."""


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


def unreadable(path: Path | str, error: BaseException) -> MarginCacheError:
    """Return the error for a file that could not be read."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return RetryableError(f"{path}: cannot be read ({reason}). Check the disk or file server.")
    return MarginCacheError(f"{path}: cannot be read ({reason}). Copy the file again.")


class FileState(NamedTuple):
    """Size of a file, and time of its last change in ns; of an object, a digest of its ETag."""

    size: int
    version: int


class CatalogFiles:
    """The files of a catalog in a directory. Methods raise OSError for what cannot be read."""

    def __init__(self, location: str) -> None:
        self.location = location

    def name(self, path: str) -> str:
        """Return the path or the URL of a file, for messages."""
        return str(Path(self.location, path))

    def exists(self, path: str) -> bool:
        """Return whether there is a file or directory; true for a broken link."""
        return os.path.lexists(self.name(path))

    def names(self, directory: str) -> list[str]:
        """Return the names of the entries of a directory, in any order."""
        return os.listdir(self.name(directory))  # noqa: PTH208  # of 70,000 files

    def state(self, path: str) -> FileState:
        state = os.stat(f"{self.location}/{path}")  # noqa: PTH116
        return FileState(state.st_size, state.st_mtime_ns)

    def read(self, path: str) -> bytes:
        return Path(self.location, path).read_bytes()

    def open_parquet(self, path: str) -> pq.ParquetFile:
        return open_parquet(Path(self.location, path))

    def save_listing(self, path: Path) -> None:
        """Save for jobs which files there are, unless they can see it themselves."""


_at_urls: dict[str, CatalogFiles] = {}


def use_remote_files(files: CatalogFiles, url: str) -> None:
    """Let `files_at` return remote files for their own URL, and for that of their collection."""
    _at_urls[files.location] = _at_urls[url.rstrip("/")] = files


def files_at(location: str) -> CatalogFiles:
    """Return the files of a catalog; of a URL, those that this process uses."""
    return _at_urls[location.rstrip("/")] if is_url(location) else CatalogFiles(location)
