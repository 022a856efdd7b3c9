"""Where an audit may write its files."""

from collections.abc import Mapping
from pathlib import Path

from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import is_url

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


def check_is_local(places: Mapping[str, str]) -> None:
    """Check that what an audit reads is on disk.

    Args:
        places: paths by their keys in the configuration.

    Raises:
        MarginCacheError: one is a URL.
    """
    for key, place in places.items():
        if is_url(place):
            raise MarginCacheError(
                f"{key}: {place} is a URL, and audits read what is on disk; give the directory of "
                "a copy"
            )
