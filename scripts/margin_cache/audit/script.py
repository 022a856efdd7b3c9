"""What the scripts of the audit have in common: an error is a line."""

import sys
from collections.abc import Callable
from typing import NoReturn

from margin_cache.errors import MarginCacheError


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script, and end the process.

    Args:
        main: Does the work and returns the exit code.
    """
    try:
        sys.exit(main())
    except MarginCacheError as error:
        print(f"error: {error}", sep="\n", file=sys.stderr)
    except OSError as error:
        place = error.filename or "a file"
        print(f"error: {place}: {error.strerror or error}", file=sys.stderr)
    sys.exit(1)
