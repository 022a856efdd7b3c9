"""What the scripts have in common: one line for an error, and a log."""

import sys
from collections.abc import Callable

from margin_cache.errors import MarginCacheError


def run(main: Callable[[], str]) -> None:
    """Run a script's work and print what it says, or its error in one line.

    Args:
        main: does the work and returns a line that says what was done.
    """
    try:
        print(main(), file=sys.stderr)
    except MarginCacheError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror or error}")
