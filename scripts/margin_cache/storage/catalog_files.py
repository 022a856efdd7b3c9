"""Where the files of a catalog are: one interface to a local directory and to a URL.

Files are named by their paths relative to the catalog. Only `files_at` knows that there are URLs.
"""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.storage.parquet_files import open_parquet
from margin_cache.storage.urls import is_url


class FileState(NamedTuple):
    """Size of a file, and time of its last change in ns; of an object, a digest of its ETag."""

    size: int
    version: int


class CatalogFiles(ABC):
    """The files of a catalog.

    Attributes:
        location: the directory, or its URL.
    """

    location: str

    @abstractmethod
    def name(self, path: str) -> str:
        """Return the path or the URL of a file, for messages."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Return whether there is a file or directory; true for a broken link."""

    @abstractmethod
    def names(self, directory: str) -> list[str]:
        """Return the names of the entries of a directory, in any order.

        Raises:
            OSError: it cannot be listed.
        """

    @abstractmethod
    def state(self, path: str) -> FileState:
        """Return the state of a file.

        Raises:
            OSError: it is missing.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the content of a small file.

        Raises:
            OSError: it is missing, or cannot be read.
        """

    @abstractmethod
    def open(self, path: str) -> pa.NativeFile:
        """Open a file, for PyArrow.

        Raises:
            OSError: it is missing, or cannot be read.
        """

    @abstractmethod
    def open_parquet(self, path: str) -> pq.ParquetFile:
        """Open a Parquet file; see `parquet_files.open_parquet`."""


class LocalFiles(CatalogFiles):
    def __init__(self, directory: str) -> None:
        self.location = directory

    def name(self, path: str) -> str:
        return str(Path(self.location, path))

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.name(path))

    def names(self, directory: str) -> list[str]:
        return os.listdir(self.name(directory))  # noqa: PTH208  # of 70,000 files

    def state(self, path: str) -> FileState:
        state = os.stat(f"{self.location}/{path}")  # noqa: PTH116
        return FileState(state.st_size, state.st_mtime_ns)

    def read(self, path: str) -> bytes:
        return Path(self.location, path).read_bytes()

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(self.name(path))

    def open_parquet(self, path: str) -> pq.ParquetFile:
        return open_parquet(Path(self.location, path))


def files_at(location: str) -> CatalogFiles:
    """Return the files of a catalog; of a URL, those that this process was connected to."""
    if not is_url(location):
        return LocalFiles(location)
    # Slow to import, and not needed for local catalogs.
    from margin_cache.storage.remote_files import connected

    return connected(location)
