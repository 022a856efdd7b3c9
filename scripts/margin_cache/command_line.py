"""What the scripts have in common: a quick start, and one line for an error."""

import sys
from collections.abc import Callable

from margin_cache.errors import MarginCacheError


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


def run(main: Callable[[], str]) -> None:
    """Run a script's work and print what it says, or its error in one line.

    Args:
        main: does the work and returns a line that says what was done.
    """
    keep_pandas_out()
    try:
        print(main(), file=sys.stderr)
    except MarginCacheError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror or error}")
