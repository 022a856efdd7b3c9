"""Mirrors of remote catalogs: directories of files that have sizes and states, but hardly content.

A file of a mirror is as long as its object, and its time of change stands for the object's ETag or
time. Where nothing has been fetched it is a hole, which takes no room on a disk: so all that lists
files and compares their states finds of the mirror what it would find of the catalog itself. What
is fetched stays: small files as a whole, and footers.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from margin_cache.errors import MarginCacheError, call
from margin_cache.storage.door import ObjectChanged
from margin_cache.storage.files import is_temporary, temporary_beside, unique_id
from margin_cache.storage.missing_parts import Range
from margin_cache.storage.object_state import ObjectState, has_state
from margin_cache.storage.stores import Store
from margin_cache.storage.urls import is_below, joined

TAIL = 8
"""Bytes at the end of a Parquet file: the length of its footer, and the format's name."""

_LONG_SECONDS = 3600


class Mirror:
    """The mirror of a catalog.

    Attributes:
        root: its directory.
        url: what it mirrors.
        store: the store behind that.
    """

    def __init__(self, root: Path, url: str, store: Store) -> None:
        self.root, self.url, self.store = root, url.rstrip("/"), store
        call(str(root.absolute()), self.url)
        call(str(root), self.url)

    def url_of(self, path: Path) -> str:
        """Return the URL of a file of the mirror."""
        return joined(self.url, path.relative_to(self.root).as_posix())

    def keep_small(self, states: dict[str, ObjectState]) -> None:
        """Fetch files as a whole, as far as they have changed.

        Args:
            states: their states by their paths in the catalog.

        Raises:
            MarginCacheError: one cannot be read, or does not lie in the catalog.
        """
        self._check_inside(states)
        wanted = {
            path: state
            for path, state in states.items()
            if not has_state(self.root / path, state.size, state.time)
        }
        reads = [
            self.store.start(self.store.read(joined(self.url, path), 0, state.size, of(state)))
            for path, state in wanted.items()
        ]
        for (path, state), read in zip(wanted.items(), reads, strict=True):
            _write(self.root / path, of(state), [(0, read.result())])

    def place(self, states: dict[str, ObjectState]) -> None:
        """Make files of some sizes and states, without content, as far as they have changed.

        Raises:
            MarginCacheError: one does not lie in the catalog.
        """
        self._check_inside(states)
        made: set[Path] = set()
        for path, state in states.items():
            file = self.root / path
            if not has_state(file, state.size, state.time):
                if file.parent not in made:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    made.add(file.parent)
                _make_hole(file, of(state))

    def _check_inside(self, paths: Iterable[str]) -> None:
        """Check that files lie in the mirror: what names them can be damaged, or mean harm."""
        for path in paths:
            if not is_below(path):
                raise MarginCacheError(f"{self.url}: names the file {path}, which is not in it")

    def remove_others(self, kept: Iterable[str]) -> None:
        """Remove the files whose objects are not there any more, and directories left empty."""
        paths = {str(self.root / path) for path in kept}
        for directory, _, names in os.walk(self.root, topdown=False):
            for name in names:
                path = os.path.join(directory, name)  # noqa: PTH118  # of 70,000 files
                if path not in paths and (not is_temporary(name) or _is_old(path)):
                    Path(path).unlink(missing_ok=True)
            if not os.listdir(directory):  # noqa: PTH208
                Path(directory).rmdir()

    def fetch_footer(self, path: Path) -> None:
        """Fetch the footer of a Parquet file into the mirror, unless it is there.

        Raises:
            MarginCacheError: it cannot be read, or has changed.
        """
        state = state_of(path)
        if state[0] <= TAIL or footer_in(path):
            return
        url = self.url_of(path)
        tail = self.store.run(self.store.read(url, state[0] - TAIL, state[0], state))
        start = footer_start(tail, state[0])
        footer = self.store.run(self.store.read(url, start, state[0] - TAIL, state))
        _write(path, state, [(start, footer + tail)])

    def fetch(self, path: Path, ranges: list[Range]) -> None:
        """Fetch parts of a Parquet file into the mirror, beside its footer.

        Args:
            path: the file, whose footer is there.
            ranges: the parts, none of which begins with a zero.

        Raises:
            MarginCacheError: one cannot be read, or has changed.
        """
        state = state_of(path)
        with path.open("rb") as file:
            if all(os.pread(file.fileno(), 1, start) != b"\0" for start, _ in ranges):
                return
            footer = footer_in(path)
            known = [(start, os.pread(file.fileno(), end - start, start)) for start, end in footer]
        url = self.url_of(path)
        reads = [self.store.start(self.store.read(url, *part, state)) for part in ranges]
        found = [(start, read.result()) for (start, _), read in zip(ranges, reads, strict=True)]
        _write(path, state, [*known, *found])


def _is_old(path: str) -> bool:
    """Tell whether a file was made so long ago that nobody is about to give it its name."""
    return os.stat(path).st_ctime < time.time() - _LONG_SECONDS  # noqa: PTH116


def of(state: ObjectState) -> tuple[int, int]:
    """Return size and time of the file that stands for an object in a state."""
    return state.size, state.time


def state_of(path: Path) -> tuple[int, int]:
    """Return size and time of a file of a mirror.

    Raises:
        MarginCacheError: it is not there any more.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise ObjectChanged(str(path)) from None
    return state.st_size, state.st_mtime_ns


def footer_start(tail: bytes, size: int) -> int:
    """Return where the footer of a file of some size begins, by its last bytes.

    Of what is no Parquet file it is where its last bytes begin: whoever opens it says so.
    """
    length = int.from_bytes(tail[:4], "little")
    return size - TAIL - length if length <= size - TAIL else max(0, size - TAIL)


def footer_in(path: Path) -> list[Range]:
    """Return where the footer is that a file of a mirror has; nothing if it has none."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), TAIL, max(0, size - TAIL))
    return [(footer_start(tail, size), size)] if any(tail) else []


def _make_hole(path: Path, state: tuple[int, int]) -> None:
    """Write a file without content. Half of it is in another state, so the next run makes it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.ftruncate(descriptor, state[0])
        os.utime(descriptor, ns=(state[1], state[1]))
    finally:
        os.close(descriptor)


def _write(path: Path, state: tuple[int, int], parts: list[tuple[int, bytes]]) -> None:
    """Write a file of a mirror, which has its name only when it is complete."""
    size, changed = state
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, unique_id())
    try:
        with temporary.open("wb") as file:
            os.ftruncate(file.fileno(), size)
            for start, content in parts:
                os.pwrite(file.fileno(), content, start)
        os.utime(temporary, ns=(changed, changed))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
