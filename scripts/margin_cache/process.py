"""What the scripts have in common: a quick start and end, and one line for an error."""

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from margin_cache.errors import FINAL, MarginCacheError, RetryableError, in_users_words

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_MEMORY = {_M_TRIM_THRESHOLD: 1 << 28, _M_MMAP_THRESHOLD: 1 << 25}
"""Parameters of glibc's mallopt(3): the most bytes that are kept, and the largest block of them."""


class _NoPandas:
    """Makes Python believe that there is no pandas."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this process", name=fullname)


def keep_pandas_out() -> None:
    """Make this process start sooner.

    PyArrow imports pandas, if it can, as soon as it meets a NumPy array. That takes as long as all
    else that a job does before its work, and nothing here uses it.
    """
    sys.meta_path.insert(0, _NoPandas())


def keep_memory() -> None:
    """Have the C library keep what is freed, for the next page of a file.

    It would give it back to the system, and get it again filled with zeros. Libraries other than
    glibc have no such setting.
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        for parameter, value in _KEPT_MEMORY.items():
            library.mallopt(parameter, value)


def one_line(error: MarginCacheError | OSError) -> str:
    """Return what is said of an error, as the last line of what a script or a run says."""
    if isinstance(error, MarginCacheError):
        return f"error: {error}"
    return in_users_words(f"error: {error.filename or 'a file'}: {error.strerror or error}")


def _end(lines: str) -> NoReturn:
    """End a script that has failed, with lines; on stdout if its log is on a full disk."""
    try:
        print(lines, file=sys.stderr, flush=True)
    except OSError:
        print(lines, flush=True)
    sys.exit(1)


def run(main: Callable[[], str]) -> NoReturn:
    """Run a script's work, print what it says, or its error in one line, and end the process.

    Args:
        main: does the work and returns a line that says what was done. Then it has closed all
            files, and no thread of it is at work.
    """
    keep_pandas_out()
    keep_memory()
    try:
        print(main(), file=sys.stderr, flush=True)
    except (MarginCacheError, OSError) as error:
        is_final = isinstance(error, MarginCacheError) and not isinstance(error, RetryableError)
        _end(f"{FINAL}\n{one_line(error)}" if is_final else one_line(error))
    # Python would now take all modules apart, one after the other.
    os._exit(0)
