"""Sizes, mounts, replacement and deletion of directories."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from margin_cache.errors import MarginCacheError

_DELETED = ".deleted"
"""Suffix of directories that are being deleted."""


def directory_size(directory: Path) -> int:
    """Return the size in bytes of all files below a directory, without hidden ones."""
    size = 0
    # Files may be removed during the count.
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                is_directory = entry.is_dir()
                size += directory_size(Path(entry.path)) if is_directory else entry.stat().st_size
    return size


def is_mount(path: Path) -> bool:
    """Return whether a file system, or another directory (a bind mount), is mounted at a path.

    Bind mounts are found on Linux only.

    Args:
        path: absolute and without links.
    """
    if path.is_mount():
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    # Spaces and control characters are written as octal numbers.
    points = (
        re.sub(rb"\\([0-7]{3})", lambda number: bytes([int(number[1], 8)]), line.split()[4])
        for line in lines
    )
    return os.fsencode(path) in points


@contextmanager
def unchanged_directory(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a path is the same directory, or missing, as before."""
    # While the directory is open, the system does not reuse its inode.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        descriptor = None

    def is_the_same() -> bool:
        try:
            state = path.stat()
        except FileNotFoundError:
            return descriptor is None
        return descriptor is not None and os.path.samestat(os.fstat(descriptor), state)

    try:
        yield is_the_same
    finally:
        if descriptor is not None:
            os.close(descriptor)


def replace_directory(
    new: Path, target: Path, backup: Path, check: Callable[[Path], None] = lambda backup: None
) -> None:
    """Replace a directory by a new one, and delete the old one.

    If the new one cannot be moved, or the check fails, the old one is restored.

    Args:
        new: the new directory.
        target: the directory that is replaced; need not exist.
        backup: where the old directory is moved meanwhile.
        check: called with `backup` before the old directory is deleted. Other processes cannot add
            files to it by its name any more.

    Raises:
        FileNotFoundError: `new` does not exist; nothing is moved.
        MarginCacheError: raised by the check.
    """
    if not new.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(new))
    if target.exists():
        delete_directory(backup)
        target.rename(backup)
    try:
        if backup.exists():
            check(backup)
        new.rename(target)
    except (OSError, MarginCacheError):
        if backup.exists() and not target.exists():
            backup.rename(target)
        raise
    delete_directory(backup)


def delete_directory(path: Path) -> None:
    """Delete a directory as far as permitted; it need not exist.

    It is renamed first, so that an interrupted deletion does not leave an incomplete directory
    under its name. `path` may also be the name that an interrupted deletion has left.
    """
    if not path.name.endswith(_DELETED):
        complete, path = path, path.with_name(f"{path.name}{_DELETED}")
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it does not exist, or is another user's
            complete.rename(path)
    shutil.rmtree(path, ignore_errors=True)
