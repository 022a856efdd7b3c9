"""Sizes, replacement and deletion of directories."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

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


def replace_directory(new: Path, target: Path, backup: Path) -> None:
    """Move a new directory to `target`, and delete the old one there if there is one.

    The old one is at `backup` meanwhile, and restored if the new one cannot be moved.
    """
    if not new.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(new))
    if target.exists():
        delete_directory(backup)
        target.rename(backup)
    try:
        new.rename(target)
    except OSError:
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
