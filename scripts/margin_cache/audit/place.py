"""Where an audit may write its files."""

from pathlib import Path

from margin_cache.errors import MarginCacheError

_FILES = ("audit.csv", "missing.png", "false.png", "audit.json")


def check_place(directory: Path) -> None:
    """Check that an audit may be written into a directory: a new one, or that of an older audit.

    Raises:
        MarginCacheError: it has other files.
    """
    try:
        names = [path.name.lstrip(".") for path in directory.iterdir()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise MarginCacheError(f"{directory}: {error.strerror}; choose another place") from None
    others = sorted(name for name in names if not name.startswith(_FILES))
    if others:
        raise MarginCacheError(
            f"{directory}: has {others[0]}, which is not of an audit; move it away, or choose "
            "another place"
        )
