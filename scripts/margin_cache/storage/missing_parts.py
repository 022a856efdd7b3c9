"""Where parts of files are fetched from that are not on disk yet, in mirrors of remote catalogs.

All that reads a catalog knows this module alone. In a process that reads catalogs on disk it does
nothing, and nothing of what fetches is imported.
"""

from pathlib import Path
from typing import Protocol

Range = tuple[int, int]
"""The first byte, and the one behind the last one."""


class Source(Protocol):
    """What fetches parts of the files in a directory."""

    root: Path

    def fetch_footer(self, path: Path) -> None:
        """Have the footer of a Parquet file in its place."""
        ...

    def fetch(self, path: Path, ranges: list[Range]) -> None:
        """Have parts of a Parquet file, whose footer is there, in their places."""
        ...


_sources: list[Source] = []


def use(source: Source) -> None:
    """Have missing parts of a source's files fetched in this process."""
    _sources.append(source)


def fetch_footer(path: Path) -> None:
    """Have the footer of a Parquet file in its place.

    Raises:
        MarginCacheError: it cannot be fetched.
    """
    for source in _sources:
        if path.is_relative_to(source.root):
            source.fetch_footer(path)


def fetch_parts(path: Path, ranges: list[Range]) -> None:
    """Have parts of a Parquet file, whose footer is there, in their places.

    Args:
        path: the file.
        ranges: the parts, each of which begins with the header of a page.

    Raises:
        MarginCacheError: they cannot be fetched.
    """
    for source in _sources:
        if path.is_relative_to(source.root):
            source.fetch(path, ranges)
