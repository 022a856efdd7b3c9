"""The version of the library that a margin was made with."""

import hashlib
from pathlib import Path

from margin_cache import __version__

_LIBRARY = Path(__file__).resolve().parent.parent
_AUDIT = "audit"  # a directory there: it makes no margin


def library_version(version: str = __version__, library: Path = _LIBRARY) -> str:
    """Return the version of the library; of one in development, with a digest of its code.

    After a change of the code, margins and intermediate files are made again; after an update from
    one release to another, they are not.

    Args:
        version: the version; in development it ends with ``.dev`` and a number (PEP 440).
        library: directory of the library.
    """
    if not is_development(version):
        return version
    digest = hashlib.blake2b(digest_size=5)
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if name.parts[0] != _AUDIT:
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes())
    return f"{version}+{digest.hexdigest()}"


def is_development(version: str) -> bool:
    """Tell whether a version is one in development."""
    return ".dev" in version


def is_as_good(made: str, now: str) -> bool:
    """Tell whether a margin that one version of the library has made need not be made by another.

    Args:
        made: version of the library that has made the margin.
        now: version of this library.
    """
    return made == now or not (is_development(made) or is_development(now))
