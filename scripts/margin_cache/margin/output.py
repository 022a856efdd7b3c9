"""Where a finished margin gets: a directory on disk, or a store of objects."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from margin_cache.catalog.formats import format_of
from margin_cache.catalog.model import CatalogInfo
from margin_cache.margin.model import Margin


class Place(Protocol):
    """What is done at the place of a margin, beside moving its directory on disk."""

    def check_claim(self, work: Mapping[str, Any]) -> None:
        """Check that the margin is being made by this run."""
        ...

    def write(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Write objects, by their paths in the margin; return their ETags."""
        ...

    def publish(self, directory: Path, sent: Collection[str]) -> None:
        """Write the other objects of a margin, of which some have been written."""
        ...

    def register(self, info: CatalogInfo) -> None:
        """List the margin in the collection that it lies in, if it shall be."""
        ...

    def release(self, owner: str | None) -> None:
        """Say that no run of this directory is at work any more."""
        ...


class _OnDisk:
    """A directory, which is moved to its place as a whole, and has locks."""

    def __init__(self, output_dir: Path) -> None:
        self._output_dir = output_dir

    def check_claim(self, work: Mapping[str, Any]) -> None:
        pass

    def write(self, files: Mapping[str, Path]) -> dict[str, str]:
        return {}

    def publish(self, directory: Path, sent: Collection[str]) -> None:
        pass

    def register(self, info: CatalogInfo) -> None:
        format_of(info).register(info, self._output_dir)

    def release(self, owner: str | None) -> None:
        pass


@contextmanager
def output_of(margin: Margin) -> Iterator[Place]:
    """Give the place of a margin; that in a store as it is now.

    Args:
        margin: the margin.

    Raises:
        MarginCacheError: a store does not answer.
    """
    if not margin.files.url:
        yield _OnDisk(margin.files.output_dir)
        return
    # Slow to import, and of no use for margins on disk.
    from margin_cache.margin.remote_output import open_output

    with open_output(margin.files) as output:
        output.refresh()
        output.show_collection(margin.plan.parameters.catalog)
        yield output
