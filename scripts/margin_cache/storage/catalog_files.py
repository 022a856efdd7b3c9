"""Where the files of a catalog are: a local directory, or a URL (`remote_files`).

Files are named by their paths relative to the catalog.
"""

import os
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from margin_cache.storage.parquet_files import open_parquet
from margin_cache.storage.urls import is_url


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
        """Return the content of a small file."""
        return Path(self.location, path).read_bytes()

    def open_parquet(self, path: str) -> pq.ParquetFile:
        """Open a Parquet file; see `parquet_files.open_parquet`."""
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
