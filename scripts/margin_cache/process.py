"""Shared by the scripts of jobs: a quick start and end, and one line for an error."""

import argparse
import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from margin_cache.errors import MarginCacheError, RetryableError

FAILURE_MARK = ".failed"
"""Suffix of the file beside a job's log with an error that another attempt would meet again."""

EXIT_ERROR, EXIT_RETRY, EXIT_INTERRUPTED = 1, 75, 130
"""Exit codes: a final error; one that another attempt may not meet (EX_TEMPFAIL); Ctrl-C."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3): the most bytes that are kept, and the largest block of them."""


class _NoPandas:
    """Makes Python believe that there is no pandas."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this process", name=fullname)


def keep_pandas_out() -> None:
    """Keep out pandas, which PyArrow imports when it meets a NumPy array.

    That takes as long as all else that a job does before its work, and nothing here uses it.
    """
    sys.meta_path.insert(0, _NoPandas())


def keep_memory() -> None:
    """Make the C library keep freed memory, which the system would hand out again as zeros."""
    with suppress(AttributeError, OSError):  # other libraries than glibc have no such setting
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 1 << 28)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 25)


def one_line(error: MarginCacheError | OSError) -> str:
    if isinstance(error, MarginCacheError):
        return f"error: {error}"
    return f"error: {error.filename or 'a file'}: {error.strerror or error}"


def required(**options: Callable[[str], object]) -> argparse.ArgumentParser:
    """Return a parser of options that must all be given, by their types."""
    parser = argparse.ArgumentParser()
    for name, option_type in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=option_type, required=True)
    return parser


def run(
    main: Callable[..., int | None], parser: argparse.ArgumentParser, is_lean: bool = True
) -> NoReturn:
    """Run a script, whose ``main`` takes the arguments and may return an exit code; then exit.

    An error is one line. If another attempt would meet it again, it is kept in the file of
    ``--failure-mark``; a later attempt prints it and ends at once. ``main`` imports what it needs
    itself, so that an interrupt meanwhile is no traceback either.
    """
    parser.add_argument("--failure-mark", type=Path, help="file that keeps a final error")
    arguments = vars(parser.parse_args())
    mark: Path | None = arguments.pop("failure_mark")
    if mark and mark.exists():
        _end(mark.read_text(encoding="utf-8").rstrip(), EXIT_ERROR)
    if is_lean:
        keep_pandas_out()
        keep_memory()
    try:
        code = main(**arguments) or 0
        if sys.stdout is not None:  # None if it was closed
            sys.stdout.flush()
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)
    except (MarginCacheError, OSError) as error:
        line = one_line(error)
        if not isinstance(error, MarginCacheError) or isinstance(error, RetryableError):
            _end(line, EXIT_RETRY)
        if mark:
            with suppress(OSError):
                mark.write_text(line, encoding="utf-8")
        _end(line, EXIT_ERROR)
    # A normal exit would first tear down all modules, one after the other. All files are closed.
    os._exit(code)


def _end(line: str, code: int) -> NoReturn:
    """End a script that has failed with a line; on stdout if its log is on a full disk."""
    try:
        print(line, file=sys.stderr)
    except OSError:
        print(line, flush=True)
    sys.exit(code)
