"""States of objects in stores, and the files on disk that stand for them."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

_FIRST_TIME, _TIMES = 315_532_800, 1 << 30
"""Times that stand for states: whole seconds, which all file systems keep, from 1980 to 2014."""


class ObjectState(NamedTuple):
    """What tells an object from an older one of its name.

    Attributes:
        size: its size in bytes.
        mark: its ETag, or the time of its last change where the store has none.
    """

    size: int
    mark: str

    @property
    def time(self) -> int:
        """A time in ns that stands for the mark, in whole seconds."""
        digest = hashlib.blake2b(self.mark.encode(), digest_size=8).digest()
        return (_FIRST_TIME + int.from_bytes(digest, "little") % _TIMES) * 10**9


def has_state(path: Path, size: int, changed: int) -> bool:
    """Tell whether a file stands for an object of some size and time."""
    try:
        state = os.stat(path)  # noqa: PTH116  # of 70,000 files
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (size, changed)


def is_object(path: Path, size: int, mark: str) -> bool:
    """Tell whether a file stands for an object of some size and ETag."""
    return has_state(path, size, ObjectState(size, mark).time)
