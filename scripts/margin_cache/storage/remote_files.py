"""The files of a catalog behind a URL.

The main process lists them once, and saves the listing with the plan for the jobs. Small files and
footers that were read are kept in a cache on disk, by digests of their URLs and ETags.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import DamagedFileError, MarginCacheError
from margin_cache.storage.catalog_files import TAIL_BYTES, CatalogFiles, FileState, open_parquet
from margin_cache.storage.files import atomic_path, read_json, write_json
from margin_cache.storage.object_store import ObjectChanged, ObjectState, ObjectStore
from margin_cache.storage.urls import join_url

_CACHE = Path(".snakemake", "remote")  # directory of the cache, in the working directory


class RemoteFiles(CatalogFiles):
    """Files behind a URL, in the states of a listing. ``connect`` is called when one is read."""

    def __init__(
        self, url: str, listing: Mapping[str, ObjectState], connect: Callable[[], ObjectStore]
    ) -> None:
        super().__init__(url.rstrip("/"))
        self.listing = dict(listing)
        self._connect = connect
        self._footer_bytes = TAIL_BYTES

    @cached_property
    def store(self) -> ObjectStore:
        return self._connect()

    @cached_property
    def _directories(self) -> dict[str, set[str]]:
        names: dict[str, set[str]] = defaultdict(set)
        for path in self.listing:
            while path:
                path, _, name = path.rpartition("/")
                if name in names[path]:
                    break
                names[path].add(name)
        return names

    def name(self, path: str) -> str:
        return join_url(self.location, path)

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
        state = self.object_state(path)

        def read() -> bytes:
            if (found := self.store.read(path)) is None:
                # In spite of the listing: some servers send a page with an apology.
                raise FileNotFoundError(2, "no such file", self.name(path))
            if found[1].etag != state.etag:
                raise ObjectChanged(self.name(path))
            return found[0]

        return self._cached(path, "", read)

    def open_parquet(self, path: str) -> pq.ParquetFile:
        try:
            if "=" not in path:  # no partition: it is read as a whole
                return open_parquet(self.name(path), pa.BufferReader(self.read(path)))
            state, footer = self.object_state(path), self.footer(path)
        except FileNotFoundError:
            raise MarginCacheError(f"{self.name(path)}: no such file.") from None
        reader = RangeReader(
            lambda start, end: self.store.read_range(path, start, end, state), state.size
        )
        return open_parquet(self.name(path), pa.PythonFile(reader, mode="r"), footer)

    def footer(self, path: str, keep: bool = True) -> bytes:
        """Return the footer of a Parquet file, and all that follows, and keep it in the cache."""
        state = self.object_state(path)

        def read() -> bytes:
            # Footers of a catalog have about the same size, so that the next one takes one request.
            is_large = state.size > 100 * self._footer_bytes
            tail_start = max(0, state.size - (self._footer_bytes if is_large else TAIL_BYTES))
            tail = bytes(self.store.read_range(path, tail_start, state.size, state))
            length = int.from_bytes(tail[-TAIL_BYTES:-4], "little") + TAIL_BYTES
            # Opening a file that is not Parquet reports the error.
            start = state.size - length if length <= state.size else tail_start
            self._footer_bytes = max(self._footer_bytes, state.size - start)
            if start >= tail_start:
                return tail[start - tail_start :]
            return bytes(self.store.read_range(path, start, tail_start, state)) + tail

        return self._cached(path, "footer", read, keep)

    def kept_footer(self, path: str) -> bytes:
        """Return the footer of a Parquet file if it is in the cache; otherwise nothing."""
        return self._cached(path, "footer", lambda: b"", keep=False)

    def _cached(self, path: str, part: str, read: Callable[[], bytes], keep: bool = True) -> bytes:
        state = self.object_state(path)
        if not state.etag:  # what is kept may be of an older version
            return read()
        key = repr((self.location, path, *state, part)).encode()
        file = _CACHE / hashlib.blake2b(key, digest_size=16).hexdigest()
        with suppress(OSError):
            cached = file.read_bytes()
            if cached[:16] == hashlib.blake2b(cached[16:], digest_size=16).digest():
                return cached[16:]
        content = read()
        if keep:
            with atomic_path(file) as temporary:
                digest = hashlib.blake2b(content, digest_size=16).digest()
                temporary.write_bytes(digest + content)
        return content

    def save_listing(self, path: Path) -> None:
        write_json(path, {"url": self.location, "files": self.listing})


def load_listing(path: Path, connect: Callable[[str], ObjectStore]) -> RemoteFiles:
    record: Any = read_json(path)
    try:
        url = str(record["url"])
        listing = {name: ObjectState(*state) for name, state in record["files"].items()}
    except (TypeError, KeyError, AttributeError):
        raise DamagedFileError(path) from None
    return RemoteFiles(url, listing, lambda: connect(url))


class RangeReader(io.RawIOBase):
    """A file of some size; ``read_range`` returns the bytes from a start to before an end."""

    def __init__(self, read_range: Callable[[int, int], memoryview], size: int) -> None:
        self._read_range, self._size = read_range, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = origin[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        start = self._position
        self._position = self._size if size < 0 else min(start + size, self._size)
        return bytes(self._read_range(start, self._position))
