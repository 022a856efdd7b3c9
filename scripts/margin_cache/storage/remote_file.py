"""A file of a remote catalog, of which a process of its own fetches the parts that it reads.

They are written into a file that is private to the process, at their places, the rest of which is a
hole. No byte is fetched twice.
"""

import os
import threading
from bisect import insort
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from margin_cache.storage.mirror import TAIL, footer_in, footer_start, state_of
from margin_cache.storage.missing_parts import Range
from margin_cache.storage.stores import Store

_PART_BYTES = 8 << 20
"""Most that is asked for at once: it is in memory until it is written."""

_GAP_BYTES = 16 << 10
"""Parts that lie no farther apart are fetched as one, which takes less than a further request."""

_TAIL_BYTES = 64 << 10
"""What is fetched of the end of a file whose footer is not known yet."""


class RemoteFile:
    """A remote file, and the private file that has what has been fetched of it.

    Attributes:
        path: the private file.
        size: its size, and the object's.
    """

    def __init__(self, store: Store, url: str, mirrored: Path, path: Path) -> None:
        """Make the private file.

        Args:
            store: the store.
            url: the object.
            mirrored: the file of the mirror that stands for it.
            path: the private file.

        Raises:
            MarginCacheError: the object is not there any more.
        """
        self._store, self._url, self._mirrored = store, url, mirrored
        self._state = state_of(mirrored)
        self.path, self.size = path, self._state[0]
        self._parts: list[tuple[int, int, Future[None]]] = []
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(self._descriptor, self.size)

    @property
    def held(self) -> int:
        """Bytes that have been fetched, or are about to be."""
        return sum(end - start for start, end, _ in self._parts)

    def need_footer(self) -> None:
        """Fetch the footer, or take it from the mirror, and wait until it is there.

        Raises:
            MarginCacheError: it cannot be read, or the object has changed.
        """
        for start, end in footer_in(self._mirrored):
            with self._mirrored.open("rb") as file:
                self._write(os.pread(file.fileno(), end - start, start), start)
            done: Future[None] = Future()
            done.set_result(None)
            insort(self._parts, (start, end, done), key=_place)
            return
        self.need([(max(0, self.size - _TAIL_BYTES), self.size)])
        with self.path.open("rb") as file:
            tail = os.pread(file.fileno(), TAIL, max(0, self.size - TAIL))
        self.need([(footer_start(tail, self.size), self.size)])

    def want(self, ranges: Iterable[Range]) -> None:
        """Begin to fetch parts, as far as that has not begun."""
        with self._lock:
            missing = _without(joined_ranges(ranges), [part[:2] for part in self._parts])
            for start, end in _pieces(missing):
                fetched = self._store.start(self._fetch(start, end))
                insort(self._parts, (start, end, fetched), key=_place)

    def need(self, ranges: Iterable[Range]) -> None:
        """Fetch parts, and wait until they are there.

        Raises:
            MarginCacheError: they cannot be read, or the object has changed.
        """
        ranges = list(ranges)
        self.want(ranges)
        for start, end, fetched in list(self._parts):
            if any(start < stop and begin < end for begin, stop in ranges):
                fetched.result()

    def close(self) -> None:
        """Delete the private file, once."""
        with self._lock:
            if self._descriptor is None:
                return
            os.close(self._descriptor)
            self._descriptor = None
        for _, _, fetched in self._parts:
            fetched.cancel()
        self.path.unlink(missing_ok=True)

    async def _fetch(self, start: int, end: int) -> None:
        content = await self._store.read(self._url, start, end, self._state)
        self._write(content, start)

    def _write(self, content: bytes, start: int) -> None:
        with self._lock:
            # Its number may be another file's once it is closed.
            if self._descriptor is not None:
                os.pwrite(self._descriptor, content, start)


def _place(part: tuple[int, int, Future[None]]) -> int:
    return part[0]


def joined_ranges(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in ascending order, those joined that overlap or nearly touch."""
    joined: list[Range] = []
    for start, end in sorted(each for each in ranges if each[0] < each[1]):
        if joined and start - joined[-1][1] <= _GAP_BYTES:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _without(ranges: Iterable[Range], taken: list[Range]) -> list[Range]:
    """Return what is left of ranges without others, which ascend."""
    left: list[Range] = []
    for start, end in ranges:
        for begin, stop in taken:
            if stop <= start or begin >= end:
                continue
            if begin > start:
                left.append((start, begin))
            start = max(start, stop)
        if start < end:
            left.append((start, end))
    return left


def _pieces(ranges: Iterable[Range]) -> list[Range]:
    """Cut ranges such that each can be in memory."""
    return [
        (first, min(first + _PART_BYTES, end))
        for start, end in ranges
        for first in range(start, end, _PART_BYTES)
    ]
