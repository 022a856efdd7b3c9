"""Where a margin is put: a directory, or objects below a URL (`store_output`).

A margin is put together in a hidden local directory, which is renamed when it is complete. Objects
cannot be renamed: they are written when all of them are known.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from margin_cache.catalog.formats import descriptions_in, is_margin
from margin_cache.catalog.hats import Collection, read_collection
from margin_cache.catalog.model import CatalogInfo
from margin_cache.storage.catalog_files import open_parquet
from margin_cache.storage.files import (
    exclusive_lock,
    has_size,
    read_json,
    replace_directory,
    rewrite_text,
)

SizeAndDigest = list[Any]  # of a file, as a provenance lists them
Draft = Callable[[Mapping[str, str], str], dict[str, Any]]


class Output:
    """A directory that a margin is put into; its lock is beside it (`prepare`)."""

    def __init__(self, directory: Path) -> None:
        self._dir = directory

    def refresh(self) -> None:
        """Look again at what is there."""

    def paths(self) -> list[str]:
        return sorted(
            path.relative_to(self._dir).as_posix()
            for path in self._dir.rglob("*")
            if path.is_symlink() or not path.is_dir()
        )

    def read_json(self, path: str) -> Any:
        return read_json(self._dir / path)

    def open_parquet(self, path: str) -> pq.ParquetFile:
        return open_parquet(self._dir / path)

    def has(self, path: str, listed: SizeAndDigest) -> bool:
        """Return whether a file that a provenance lists is unchanged, without reading its rows."""
        return has_size(self._dir / path, listed[0])

    def is_margin(self) -> bool:
        return is_margin(descriptions_in(self._dir))

    def check_free(self) -> None:
        """Check that no other run makes the margin, and that no catalog is around it or in it."""

    def acquire(self, run: Mapping[str, Any]) -> None:
        """Let other runs see that this one makes the margin; an error if another one does."""

    def is_left_locked(self) -> bool:
        """Return whether an earlier run of this directory has been killed."""
        return False

    def state(self) -> object:
        """Return what changes when another run takes over, or puts a margin there."""
        try:
            state = self._dir.stat()
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_ctime_ns

    def upload(
        self, directory: Path, listed: Mapping[str, SizeAndDigest], draft: Draft
    ) -> dict[str, str]:
        """Write the listed files of a margin where they cannot be moved; return their ETags.

        ``draft`` returns the provenance of the unfinished margin, from ETags and a token.
        """
        return {}

    def publish(self, directory: Path, backup: Path) -> None:
        """Put a complete margin into its place; an older directory is at ``backup`` meanwhile."""
        replace_directory(directory, self._dir, backup)

    def collection(self, info: CatalogInfo) -> Collection | None:
        found = read_collection(self._dir.parent)
        return found if found is not None and found.is_of(info) else None

    def register(self, info: CatalogInfo, may_be_default: bool) -> None:
        """List the margin in the collection around it, if there is one of the catalog."""
        if self.collection(info) is None:
            return
        # Another process may be finishing a margin of the same collection.
        with exclusive_lock(self._dir.parent):
            if (found := self.collection(info)) is not None:
                after = found.with_margin(str(self._dir), may_be_default)
                if after != found.text:
                    rewrite_text(Path(found.file), after)

    def release(self) -> None:
        """Let other runs make the margin again."""


def describe_run(run: Any) -> str:
    """Describe the run in a lock, whose content may be damaged."""
    try:
        text = f"process {run['process']} on {run['host']}, started in {run['directory']}"
    except (TypeError, KeyError):
        return "unknown process"
    return "".join(char if char.isprintable() else "?" for char in text)
