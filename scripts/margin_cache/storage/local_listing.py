"""Local listings of remote catalogs and margins: sparse files with the sizes of the objects.

A file of a listing is as long as its object, and its modification time is a hash of the ETag. So
code that lists and compares files works on a listing as on a local catalog. Only small files, and
fetched footers and column chunks, have content; the rest takes no disk space.

`fetch_footer` and `fetch_ranges` download parts of a file into the registered listing that it is
in. For local files they do nothing.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from margin_cache.errors import MarginCacheError, show_as
from margin_cache.storage.files import is_temporary, temporary_beside, unique_id
from margin_cache.storage.old_object_store import FileStamp, ObjectChanged, ObjectState
from margin_cache.storage.urls import is_file_path, join_url

if TYPE_CHECKING:
    from margin_cache.storage.store_client import StoreClient

ByteRange = tuple[int, int]
"""The first byte, and the byte after the last."""

TAIL_BYTES = 8
"""The end of a Parquet file: the length of its footer and the magic number."""

_STALE_SECONDS = 3600
"""Temporary files of this age belong to no process at work."""


class LocalListing:
    """The local listing of the objects below a URL."""

    def __init__(self, root: Path, url: str, store: "StoreClient") -> None:
        self.root, self.url, self.store = root, url.rstrip("/"), store
        show_as(str(root.absolute()), self.url)
        show_as(str(root), self.url)

    def url_of(self, path: Path) -> str:
        return join_url(self.url, path.relative_to(self.root).as_posix())

    def download(self, states: Mapping[str, ObjectState]) -> None:
        """Download the objects that are not on disk in these states, by their relative paths.

        Raises:
            MarginCacheError: one cannot be read, or is not below the URL.
        """
        self._check_inside(states)
        missing = {
            path: state
            for path, state in states.items()
            if not _has_stamp(self.root / path, state.stamp)
        }
        reads = [
            self.store.submit(self.store.read(join_url(self.url, path), 0, state.size, state.stamp))
            for path, state in missing.items()
        ]
        for (path, state), read in zip(missing.items(), reads, strict=True):
            _write(self.root / path, state.stamp, [(0, read.result())])

    def add(self, states: Mapping[str, ObjectState]) -> None:
        """Add files without content for objects, unless they are listed in these states.

        Raises:
            MarginCacheError: one is not below the URL.
        """
        self._check_inside(states)
        directories: set[Path] = set()
        for path, state in states.items():
            file = self.root / path
            if not _has_stamp(file, state.stamp):
                if file.parent not in directories:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    directories.add(file.parent)
                _write_sparse(file, state.stamp)

    def _check_inside(self, paths: Iterable[str]) -> None:
        """Reject paths that leave the directory: the catalog's own files may name them."""
        for path in paths:
            if not is_file_path(path):
                raise MarginCacheError(
                    f"{self.url}: the catalog lists the file {path}, which is not inside the "
                    "catalog. Correct partition_info.csv or _metadata."
                )

    def remove_others(self, kept: Iterable[str]) -> None:
        """Remove all files but those with the given relative paths, and empty directories."""
        paths = {str(self.root / path) for path in kept}
        for directory, _, names in os.walk(self.root, topdown=False):
            for name in names:
                path = os.path.join(directory, name)  # noqa: PTH118  # of 70,000 files
                if path not in paths and (not is_temporary(name) or _is_stale(path)):
                    Path(path).unlink(missing_ok=True)
            if not os.listdir(directory):  # noqa: PTH208
                Path(directory).rmdir()

    def fetch_footer(self, path: Path) -> None:
        """Download the footer of a Parquet file unless it is on disk.

        Raises:
            MarginCacheError: it cannot be read, or the object has changed.
        """
        stamp = listed_stamp(path)
        if stamp.size <= TAIL_BYTES or footer_on_disk(path):
            return
        url, tail_start = self.url_of(path), stamp.size - TAIL_BYTES
        tail = self.store.run(self.store.read(url, tail_start, stamp.size, stamp))
        start = footer_start(tail, stamp.size)
        footer = self.store.run(self.store.read(url, start, tail_start, stamp))
        _write(path, stamp, [(start, footer + tail)])

    def fetch_ranges(self, path: Path, ranges: list[ByteRange]) -> None:
        """Download ranges unless they are on disk. Each begins with a page header."""
        stamp = listed_stamp(path)
        with path.open("rb") as file:
            # The first byte of a page header is not zero.
            if all(os.pread(file.fileno(), 1, start) != b"\0" for start, _ in ranges):
                return
            parts: list[tuple[int, bytes]] = []
            if footer := footer_on_disk(path):
                start, end = footer
                parts.append((start, os.pread(file.fileno(), end - start, start)))
        url = self.url_of(path)
        reads = [self.store.submit(self.store.read(url, *range_, stamp)) for range_ in ranges]
        parts += [(start, read.result()) for (start, _), read in zip(ranges, reads, strict=True)]
        _write(path, stamp, parts)


_listings: list[LocalListing] = []


def register_listing(listing: LocalListing) -> None:
    """Let `fetch_footer` and `fetch_ranges` of this process download files of a listing."""
    _listings.append(listing)


def fetch_footer(path: Path) -> None:
    """Download the footer of a Parquet file unless it is on disk.

    Raises:
        MarginCacheError: it cannot be read, or the object has changed.
    """
    for listing in _listings:
        if path.is_relative_to(listing.root):
            listing.fetch_footer(path)


def fetch_ranges(path: Path, ranges: list[ByteRange]) -> None:
    """Download ranges of a Parquet file unless they are on disk. Each begins with a page header.

    Raises:
        MarginCacheError: one cannot be read, or the object has changed.
    """
    for listing in _listings:
        if path.is_relative_to(listing.root):
            listing.fetch_ranges(path, ranges)


def is_object_version(path: Path, size: int, etag: str) -> bool:
    """Return whether a file of a listing represents an object of this size and ETag."""
    return _has_stamp(path, ObjectState(size, etag).stamp)


def listed_stamp(path: Path) -> FileStamp:
    """Return the stamp of a file of a listing.

    Raises:
        ObjectChanged: it does not exist any more.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise ObjectChanged(str(path)) from None
    return FileStamp(state.st_size, state.st_mtime_ns)


def footer_start(tail: bytes, size: int) -> int:
    """Return where the footer of a file of this size begins, by the file's last bytes.

    If it is no Parquet file, return the start of the tail: opening the file reports the error.
    """
    length = int.from_bytes(tail[:4], "little")
    tail_start = size - TAIL_BYTES
    return tail_start - length if length <= tail_start else max(0, tail_start)


def footer_on_disk(path: Path) -> ByteRange | None:
    """Return the range of a file's footer, tail included; None if it was not downloaded."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
    return (footer_start(tail, size), size) if any(tail) else None


def _has_stamp(path: Path, stamp: FileStamp) -> bool:
    try:
        state = os.stat(path)  # noqa: PTH116  # of 70,000 files
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == stamp


def _is_stale(path: str) -> bool:
    return os.stat(path).st_ctime < time.time() - _STALE_SECONDS  # noqa: PTH116


def _write_sparse(path: Path, stamp: FileStamp) -> None:
    """Write a file without content. If interrupted, its stamp differs, and it is written again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.ftruncate(descriptor, stamp.size)
        os.utime(descriptor, ns=(stamp.mtime_ns, stamp.mtime_ns))
    finally:
        os.close(descriptor)


def _write(path: Path, stamp: FileStamp, parts: list[tuple[int, bytes]]) -> None:
    """Write a file with some parts of its content, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, unique_id())
    try:
        with temporary.open("wb") as file:
            os.ftruncate(file.fileno(), stamp.size)
            for start, content in parts:
                os.pwrite(file.fileno(), content, start)
        os.utime(temporary, ns=(stamp.mtime_ns, stamp.mtime_ns))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
