"""Directories: their size, and how one takes the place of another, or goes."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from margin_cache.errors import MarginCacheError

_HALF_DELETED = ".deleted"
"""What is added to the name of a directory that is about to be deleted."""


def directory_size(directory: Path) -> int:
    """Return the size of all files below a directory but hidden ones, in bytes.

    Those that go meanwhile do not count.
    """
    size = 0
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                is_directory = entry.is_dir()
                size += directory_size(Path(entry.path)) if is_directory else entry.stat().st_size
    return size


def is_mount(path: Path) -> bool:
    """Tell whether a file system is mounted at a path, or a directory of the same one.

    The latter has the device of what is around it, and only Linux says that it is mounted there.

    Args:
        path: the path, absolute and without links.
    """
    if path.is_mount():
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    # Blanks and the like are written as their octal numbers.
    points = (
        re.sub(rb"\\([0-7]{3})", lambda number: bytes([int(number[1], 8)]), line.split()[4])
        for line in lines
    )
    return os.fsencode(path) in points


@contextmanager
def unchanged_directory(path: Path) -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether a path leads to the same directory, or to none, as before.

    Args:
        path: the directory; need not exist.
    """
    # While it is open, no other gets its number.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        descriptor = None

    def is_the_same() -> bool:
        try:
            found = path.stat()
        except FileNotFoundError:
            return descriptor is None
        return descriptor is not None and os.path.samestat(os.fstat(descriptor), found)

    try:
        yield is_the_same
    finally:
        if descriptor is not None:
            os.close(descriptor)


def replace_directory(
    new: Path, target: Path, old: Path, check: Callable[[Path], None] = lambda old: None
) -> None:
    """Replace a directory by another; the old one is deleted once the new one is there.

    If the new one cannot be moved, or the check fails, the old one is put back.

    Args:
        new: the directory that replaces it.
        target: the directory that is replaced; need not exist.
        old: where ``target`` is moved to meanwhile.
        check: what is asked, of the old one in its new place, whether it may go. Nobody can add to
            it by its name any more.

    Raises:
        FileNotFoundError: ``new`` is not there; then nothing is moved.
        MarginCacheError: by the check.
    """
    if not new.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(new))
    if target.exists():
        delete_directory(old)
        target.rename(old)
    try:
        if old.exists():
            check(old)
        new.rename(target)
    except (OSError, MarginCacheError):
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    delete_directory(old)


def delete_directory(path: Path) -> None:
    """Delete a directory, as far as that is allowed, so that half of it is not taken for all.

    Args:
        path: the directory, which gets another name first; or one that has got it, when an earlier
            process was killed; need not exist.
    """
    if not path.name.endswith(_HALF_DELETED):
        whole, path = path, path.with_name(f"{path.name}{_HALF_DELETED}")
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it is not there, or another user's
            whole.rename(path)
    shutil.rmtree(path, ignore_errors=True)
