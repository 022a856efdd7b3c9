"""The files of a catalog behind a URL.

The main process lists them once, and saves the listing with the plan for the jobs. Small files and
footers that were read are kept in a cache on disk, by digests of their URLs and ETags.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError
from margin_cache.storage.catalog_files import CatalogFiles, FileState
from margin_cache.storage.files import atomic_path, read_json, write_json
from margin_cache.storage.object_store import ObjectChanged, ObjectState, ObjectStore
from margin_cache.storage.parquet_files import TAIL_BYTES, footer_start, open_parquet

_CACHE = Path(".snakemake", "remote")
"""Directory of the cache, in the working directory."""


class RemoteFiles(CatalogFiles):
    """Files behind a URL, in the states of a listing. ``connect`` is called when one is read."""

    def __init__(
        self, url: str, listing: Mapping[str, ObjectState], connect: Callable[[], ObjectStore]
    ) -> None:
        self.location = url.rstrip("/")
        self.listing = dict(listing)
        self._connect = connect

    @cached_property
    def store(self) -> ObjectStore:
        return self._connect()

    @cached_property
    def _directories(self) -> dict[str, set[str]]:
        """The names in each directory."""
        names: dict[str, set[str]] = defaultdict(set)
        for path in self.listing:
            while path:
                path, _, name = path.rpartition("/")
                if name in names[path]:
                    break
                names[path].add(name)
        return names

    def name(self, path: str) -> str:
        return f"{self.location}/{path}" if path else self.location

    def exists(self, path: str) -> bool:
        return path in self.listing

    def names(self, directory: str) -> list[str]:
        return list(self._directories.get(directory, ()))

    def state(self, path: str) -> FileState:
        state = self.object_state(path)
        digest = hashlib.blake2b(state.etag.encode(), digest_size=8).digest()
        return FileState(state.size, int.from_bytes(digest, "little") >> 1)

    def object_state(self, path: str) -> ObjectState:
        try:
            return self.listing[path]
        except KeyError:
            raise FileNotFoundError(2, "no such file", self.name(path)) from None

    def read(self, path: str) -> bytes:
        content = self.read_if_exists(path)
        if content is None:
            raise ObjectChanged(self.name(path))
        return content

    def read_if_exists(self, path: str) -> bytes | None:
        """Return the content of a small file; None if the store has none in spite of its listing.

        Some servers send a page with an apology instead of an error.
        """
        state = self.object_state(path)

        def read() -> bytes:
            found = self.store.read(path)
            if found is None:
                raise FileNotFoundError(2, "no such file", self.name(path))
            if found[1].etag != state.etag:
                raise ObjectChanged(self.name(path))
            return found[0]

        try:
            return self._cached(path, state, "", read)
        except FileNotFoundError:
            return None

    def open(self, path: str) -> pa.NativeFile:
        if "=" not in path:  # no partition: it is read as a whole
            return pa.BufferReader(self.read(path))
        return pa.PythonFile(RangeReader(self, path, self.object_state(path)), mode="r")

    def open_parquet(self, path: str) -> pq.ParquetFile:
        try:
            source = self.open(path)
            footer = self.footer(path) if "=" in path else None
            return open_parquet(self.name(path), source, footer)
        except FileNotFoundError:
            raise MarginCacheError(f"{self.name(path)}: no such file.") from None

    def footer(self, path: str) -> bytes:
        """Return the footer of a Parquet file, and all that follows."""
        state = self.object_state(path)
        return self._cached(path, state, "footer", lambda: self.fetch_footer(path))

    def fetch_footer(self, path: str) -> bytes:
        state = self.object_state(path)
        tail_start = max(0, state.size - TAIL_BYTES)
        tail = bytes(self.store.read_range(path, tail_start, state.size, state))
        start = footer_start(tail, state.size)
        return bytes(self.store.read_range(path, start, tail_start, state)) + tail

    def cached_footer(self, path: str) -> bytes | None:
        """Return the same, unless it was not read before."""
        try:
            return self._cache_path(path, self.object_state(path), "footer").read_bytes()
        except OSError:
            return None

    def _cached(self, path: str, state: ObjectState, part: str, read: Callable[[], bytes]) -> bytes:
        file = self._cache_path(path, state, part)
        try:
            return file.read_bytes()
        except OSError:
            content = read()
        with atomic_path(file) as temporary:
            temporary.write_bytes(content)
        return content

    def _cache_path(self, path: str, state: ObjectState, part: str) -> Path:
        key = repr((path, state.size, state.etag, part)).encode()
        return self._cache_dir / hashlib.blake2b(key, digest_size=16).hexdigest()

    @cached_property
    def _cache_dir(self) -> Path:
        return _CACHE / hashlib.blake2b(self.location.encode(), digest_size=8).hexdigest()


class RangeReader(io.RawIOBase):
    """A file of which ranges are read from a store."""

    def __init__(self, files: RemoteFiles, path: str, state: ObjectState) -> None:
        self._files, self._path, self._state = files, path, state
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._state.size}
        self._position = origin[whence] + offset
        return self._position

    def size(self) -> int:
        return self._state.size

    def read(self, size: int = -1) -> bytes:
        start, end = self._position, self._state.size
        self._position = end if size < 0 else min(start + size, end)
        store = self._files.store
        return bytes(store.read_range(self._path, start, self._position, self._state))


_connected: dict[str, RemoteFiles] = {}


def connect_files(files: RemoteFiles, url: str = "") -> None:
    """Let `catalog_files.files_at` return files for their URL, and for another one."""
    _connected[files.location] = _connected[(url or files.location).rstrip("/")] = files


def connected(url: str) -> RemoteFiles:
    return _connected[url.rstrip("/")]


def save_listing(files: RemoteFiles, path: Path) -> None:
    """Save the listing of a catalog for jobs."""
    write_json(path, {"url": files.location, "files": files.listing})


def load_listing(path: Path, connect: Callable[[str], ObjectStore]) -> RemoteFiles:
    """Load a saved listing."""
    record: Any = read_json(path)
    try:
        url = str(record["url"])
        listing = {name: ObjectState(*state) for name, state in record["files"].items()}
    except (TypeError, KeyError, AttributeError):
        raise MarginCacheError(
            f"{path}: is missing or damaged. Start the run again; it replaces the file."
        ) from None
    return RemoteFiles(url, listing, lambda: connect(url))
