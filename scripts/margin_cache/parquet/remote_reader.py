"""Reads remote partitions: each job fetches only the parts that it reads, in advance.

Fetched ranges are written into a sparse file that is private to the process, at their offsets. No
byte is fetched twice.
"""

import os
import threading
from bisect import insort
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from margin_cache.errors import MarginCacheError
from margin_cache.parquet.footers import column_ranges
from margin_cache.storage.local_listing import (
    TAIL_BYTES,
    ByteRange,
    footer_on_disk,
    footer_start,
    listed_stamp,
)
from margin_cache.storage.parquet_files import open_parquet

if TYPE_CHECKING:
    from margin_cache.storage.store_client import StoreClient

_AHEAD_BYTES, _AHEAD_FILES = 256 << 20, 16
"""Limits of the files that are fetched ahead; at least one is."""

_REQUEST_BYTES = 8 << 20
"""Most bytes of a request, which are in memory until they are written."""

_GAP_BYTES = 16 << 10
"""Ranges with a smaller gap are fetched together, which is faster than another request."""

_END_BYTES = 64 << 10
"""First request for a footer of unknown length."""

_Fetch = tuple[int, int, Future[None]]
"""A range, and its download."""


class RemoteFile:
    """A remote file, and the private file with the ranges that were fetched.

    Args:
        store: the store.
        url: the object.
        listed: its file in the local listing.
        path: the private file, which is created.

    Raises:
        MarginCacheError: the object does not exist any more.
    """

    def __init__(self, store: "StoreClient", url: str, listed: Path, path: Path) -> None:
        self._store, self._url, self._listed = store, url, listed
        self._stamp = listed_stamp(listed)
        self.path, self.size = path, self._stamp.size
        self._fetches: list[_Fetch] = []
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(self._descriptor, self.size)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes that were fetched, or are being fetched."""
        return sum(end - start for start, end, _ in self._fetches)

    def fetch_footer(self) -> None:
        """Fetch the footer, or copy it from the local listing."""
        if footer := footer_on_disk(self._listed):
            start, end = footer
            with self._listed.open("rb") as file:
                self._write(os.pread(file.fileno(), end - start, start), start)
            done: Future[None] = Future()
            done.set_result(None)
            insort(self._fetches, (start, end, done), key=_start)
            return
        self.fetch([(max(0, self.size - _END_BYTES), self.size)])
        with self.path.open("rb") as file:
            tail = os.pread(file.fileno(), TAIL_BYTES, max(0, self.size - TAIL_BYTES))
        self.fetch([(footer_start(tail, self.size), self.size)])

    def prefetch(self, ranges: Iterable[ByteRange]) -> None:
        """Begin to fetch the ranges that are not on disk, and return at once."""
        with self._lock:
            known = [(start, end) for start, end, _ in self._fetches]
            for start, end in _split(_without(merge_ranges(ranges), known)):
                fetch = self._store.submit(self._fetch(start, end))
                insort(self._fetches, (start, end, fetch), key=_start)

    def fetch(self, ranges: Iterable[ByteRange]) -> None:
        """Fetch the ranges that are not on disk, and wait for them.

        Raises:
            MarginCacheError: one cannot be read, or the object has changed.
        """
        ranges = list(ranges)
        self.prefetch(ranges)
        for start, end, fetch in list(self._fetches):
            if any(start < stop and begin < end for begin, stop in ranges):
                fetch.result()

    def close(self) -> None:
        """Delete the private file. A second call does nothing."""
        with self._lock:
            if self._descriptor is None:
                return
            os.close(self._descriptor)
            self._descriptor = None
        for _, _, fetch in self._fetches:
            fetch.cancel()
        self.path.unlink(missing_ok=True)

    async def _fetch(self, start: int, end: int) -> None:
        content = await self._store.read(self._url, start, end, self._stamp)
        self._write(content, start)

    def _write(self, content: bytes, start: int) -> None:
        with self._lock:
            # After closing, the number of the descriptor may be another file's.
            if self._descriptor is not None:
                os.pwrite(self._descriptor, content, start)


class RemoteReader:
    """Opens files in a given order, and fetches footers and positions of the next ones.

    Args:
        files: files of the local listing, in the order in which they will be opened.
        columns: the columns that are read of all rows.
        make: creates the `RemoteFile` of a file.
    """

    def __init__(
        self, files: Sequence[Path], columns: Collection[str], make: Callable[[Path], RemoteFile]
    ) -> None:
        self._waiting, self._columns, self._make = list(files), columns, make
        self._ahead: list[tuple[Path, int, Future[RemoteFile]]] = []
        self._opened: list[RemoteFile] = []
        self._pool = ThreadPoolExecutor(_AHEAD_FILES, thread_name_prefix="prefetch")

    def open(self, path: Path) -> RemoteFile:
        """Return the next file, with its footer and positions on disk.

        Raises:
            MarginCacheError: they cannot be read, or the object has changed.
        """
        self._start_fetches()
        expected, _, file = self._ahead.pop(0)
        if expected != path:
            raise ValueError(f"{path} is opened before {expected}")
        opened = file.result()
        self._start_fetches()
        return opened

    def close(self) -> None:
        """Delete everything that was fetched."""
        for _, _, file in self._ahead:
            file.cancel()
        self._pool.shutdown()
        for opened in self._opened:
            opened.close()

    def _start_fetches(self) -> None:
        while self._waiting:
            size = 0
            with suppress(OSError):  # opening the file reports the error
                size = self._waiting[0].stat().st_size
            bytes_ahead = sum(size for _, size, _ in self._ahead) + size
            if self._ahead and (bytes_ahead > _AHEAD_BYTES or len(self._ahead) == _AHEAD_FILES):
                return
            path = self._waiting.pop(0)
            self._ahead.append((path, size, self._pool.submit(self._fetch, path)))

    def _fetch(self, path: Path) -> RemoteFile:
        file = self._make(path)
        self._opened.append(file)
        file.fetch_footer()
        try:
            parquet = open_parquet(file.path)
        except MarginCacheError:
            return file  # the caller opens it again and gets the error
        file.fetch(column_ranges(parquet, self._columns))
        return file


def merge_ranges(ranges: Iterable[ByteRange]) -> list[ByteRange]:
    """Sort ranges, and merge those that overlap or have a small gap between them."""
    merged: list[ByteRange] = []
    for start, end in sorted((start, end) for start, end in ranges if start < end):
        if merged and start - merged[-1][1] <= _GAP_BYTES:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _without(ranges: Iterable[ByteRange], known: list[ByteRange]) -> list[ByteRange]:
    """Return the parts of ranges that are in none of the known ranges, which are sorted."""
    missing: list[ByteRange] = []
    for start, end in ranges:
        for known_start, known_end in known:
            if known_end <= start or known_start >= end:
                continue
            if known_start > start:
                missing.append((start, known_start))
            start = max(start, known_end)
        if start < end:
            missing.append((start, end))
    return missing


def _split(ranges: Iterable[ByteRange]) -> list[ByteRange]:
    """Split ranges into requests of at most ``_REQUEST_BYTES``."""
    return [
        (first, min(first + _REQUEST_BYTES, end))
        for start, end in ranges
        for first in range(start, end, _REQUEST_BYTES)
    ]


def _start(fetch: _Fetch) -> int:
    return fetch[0]
