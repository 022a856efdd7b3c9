"""A margin that is written to a store of objects.

A directory on disk, its image, shows which objects there are: as files of their sizes, whose times
stand for their ETags, without content but for small ones. So all that looks at a margin on disk
looks at the image. Objects are written where they stay, since stores cannot move a directory; what
a margin says of itself is removed before the first of them is written, and written last, so that a
reader finds a whole margin or none.
"""

import atexit
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from margin_cache.catalog.formats import format_of
from margin_cache.catalog.hats import read_properties
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.spec import COLLECTION_PROPERTIES, NORDER, HatsKey
from margin_cache.errors import MarginCacheError
from margin_cache.margin.output_lock import DESCRIPTIONS, LOCK_OBJECT, in_use, read_output_lock
from margin_cache.margin.paths import PROVENANCE, MarginFiles
from margin_cache.margin.storage_options import load_options
from margin_cache.storage.door import PreconditionFailed
from margin_cache.storage.files import is_temporary, write_json
from margin_cache.storage.mirror import Mirror
from margin_cache.storage.missing_parts import use
from margin_cache.storage.object_state import ObjectState
from margin_cache.storage.stores import Store
from margin_cache.storage.urls import joined

_SMALL_BYTES = 1 << 20
"""Objects up to this size, other than rows, are compared by their content."""

_MOST_TOGETHER = 16 << 20
"""Files up to this size [bytes] are sent together, as many as the store has requests at a time."""

_TRIES = 10
"""How often a collection is read again because another process has changed it."""


def open_output(files: MarginFiles, options: Mapping[str, Any] | None = None) -> "RemoteOutput":
    """Return the place of a margin in a store.

    Args:
        files: the files of the margin.
        options: fsspec's options for the store; None: as jobs find them.

    Raises:
        MarginCacheError: there is no driver for the store, or no options for it.
    """
    found = load_options(files.output_storage_file) if options is None else options
    return RemoteOutput(files.url, files.output_dir, found)


def use_image(files: MarginFiles) -> None:
    """Have what this process reads of a margin in a store fetched into its image.

    Args:
        files: the files of the margin.

    Raises:
        MarginCacheError: there is no driver for the store, or no options for it.
    """
    output = open_output(files)
    atexit.register(output.close)
    use(output.mirror)


class RemoteOutput:
    """The place of a margin in a store, and its image on disk."""

    def __init__(self, url: str, image: Path, options: Mapping[str, Any]) -> None:
        """Find the driver for a store.

        Args:
            url: the URL of the margin.
            image: the directory that shows what is there.
            options: fsspec's options for the store.

        Raises:
            MarginCacheError: there is no driver, or it does not take the options.
        """
        self.url, self.image = url, image
        self._around = url.rpartition("/")[0]
        self._store = Store(url, options, "output")
        self.mirror = Mirror(image, url, self._store)

    def __enter__(self) -> "RemoteOutput":
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._store.close()

    def refresh(self) -> None:
        """Ask which objects there are, and have the image show them.

        Raises:
            MarginCacheError: the store does not answer, or does not list them.
        """
        try:
            found = self._store.run(self._store.listing(self.url))
        except FileNotFoundError:
            raise MarginCacheError(
                f"output_path: {self.url} is in a bucket that is not there; make the bucket"
            ) from None
        if found is None:
            raise MarginCacheError(
                f"output_path: {self.url}: its store does not list objects for these credentials, "
                "without which nobody knows what is there; allow that"
            )
        small = {
            path: state
            for path, state in found.items()
            if path == PROVENANCE or (state.size <= _SMALL_BYTES and f"{NORDER}=" not in path)
        }
        self.mirror.keep_small(small)
        self.mirror.place({path: state for path, state in found.items() if path not in small})
        if self.image.is_dir():
            self.mirror.remove_others(found)

    def show_collection(self, info: CatalogInfo) -> str | None:
        """Have the image show the collection that the margin lies in, if it lies in one.

        A link leads to the mirror of its primary, if that is the catalog that the margin is of.

        Args:
            info: the catalog.

        Returns:
            The ETag of the properties of the collection, or None if there are none.

        Raises:
            MarginCacheError: the store does not answer.
        """
        (state,) = self._store.run(
            self._store.states([joined(self._around, COLLECTION_PROPERTIES)])
        )
        path = self.image.parent / COLLECTION_PROPERTIES
        if state is None:
            path.unlink(missing_ok=True)
            return None
        Mirror(self.image.parent, self._around, self._store).keep_small(
            {COLLECTION_PROPERTIES: state}
        )
        given = read_properties(path).get(HatsKey.PRIMARY, "")
        link = self.image.parent / given
        if info.url and info.url == joined(self._around, given) and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(Path(info.path).absolute())
        return state.mark

    def register(self, info: CatalogInfo) -> None:
        """List the margin in the collection that it lies in, if that is the one of its primary.

        Args:
            info: the catalog.

        Raises:
            MarginCacheError: the properties of the collection cannot be written, or are changed by
                others all the time.
        """
        path = self.image.parent / COLLECTION_PROPERTIES
        for _ in range(_TRIES):
            mark = self.show_collection(info)
            if mark is None:
                return
            before = path.read_bytes()
            found = self._store.run(self._store.listing(self._around)) or {}
            size = sum(state.size for name, state in found.items() if name != COLLECTION_PROPERTIES)
            format_of(info).register(info, self.image, size)
            after = path.read_bytes()
            if after == before:
                return
            url = joined(self._around, COLLECTION_PROPERTIES)
            try:
                self._store.run(self._store.write(url, partial(bytes, after), mark))
                return
            except PreconditionFailed:
                path.unlink()
        raise MarginCacheError(
            f"{joined(self._around, COLLECTION_PROPERTIES)}: was changed by others, {_TRIES} "
            "times; start the run again"
        )

    def write(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Write objects, each as a whole.

        Args:
            files: by the objects' paths in the margin, the files that have their content, and that
                stand for them from now on.

        Returns:
            The ETags of the objects.

        Raises:
            MarginCacheError: one cannot be written.
        """
        marks = {}
        for path, written in self._started(files):
            state = written.result()
            marks[path] = state.mark
            os.utime(files[path], ns=(state.time, state.time))
        return marks

    def _started(self, files: Mapping[str, Path]) -> Iterator[tuple[str, Future[ObjectState]]]:
        """Yield objects that are being written: small ones together, large ones one by one.

        Each is in memory as a whole meanwhile.
        """
        started = []
        large = []
        for path, file in files.items():
            if file.stat().st_size > _MOST_TOGETHER:
                large.append((path, file))
            else:
                started.append((path, self._start(path, file)))
        yield from started
        for path, file in large:
            yield path, self._start(path, file)

    def _start(self, path: str, file: Path) -> Future[ObjectState]:
        return self._store.start(self._store.write(joined(self.url, path), file.read_bytes))

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects, and have the image show that.

        Raises:
            MarginCacheError: one cannot be removed.
        """
        paths = list(paths)
        self._store.run(self._store.remove([joined(self.url, path) for path in paths]))
        for path in paths:
            (self.image / path).unlink(missing_ok=True)

    def withdraw(self) -> None:
        """Remove what a margin says of itself, so that no reader takes it for one.

        Raises:
            MarginCacheError: the store does not allow that.
        """
        for name in reversed(DESCRIPTIONS):
            if (self.image / name).exists():
                self.remove([name])

    def claim(self, run: Mapping[str, Any]) -> None:
        """Say that a run is at work at the margin, unless another one has said so.

        Args:
            run: which run it is; "owner" tells those of this image from all others.

        Raises:
            MarginCacheError: another one is.
        """
        content = json.dumps(run).encode()
        state = self._state(LOCK_OBJECT)
        claimed = read_output_lock(self._read(LOCK_OBJECT)) if state else None
        if state and not (isinstance(claimed, dict) and claimed.get("owner") == run["owner"]):
            raise in_use(self.url, claimed)
        url = joined(self.url, LOCK_OBJECT)
        try:
            self._store.run(self._store.write(url, lambda: content, state.mark if state else ""))
        except PreconditionFailed:
            found = self._read(LOCK_OBJECT)
            if found != content:  # or an earlier try has written it
                raise in_use(self.url, read_output_lock(found)) from None
        self._store.run(self._store.abort_uploads(self.url))
        write_json(self.image / LOCK_OBJECT, run)

    def check_claim(self, work: Mapping[str, Any]) -> None:
        """Check that a run is still at work at the margin.

        Args:
            work: what it makes, as its claim has it.

        Raises:
            MarginCacheError: it is not.
        """
        claimed = read_output_lock(self._read(LOCK_OBJECT))
        if not isinstance(claimed, dict) or not work.items() <= claimed.items():
            raise MarginCacheError(
                f"{self.url}: is not being made by this run any more; start the run again, which "
                "finds out whether anything is left to do"
            )

    def publish(self, directory: Path, sent: Collection[str]) -> None:
        """Remove what is not the margin's, and write what has not been written: its own word last.

        Args:
            directory: all files of the margin, those that have been written without content.
            sent: paths of the latter.

        Raises:
            MarginCacheError: the store does not allow that.
        """
        files = _paths_below(directory)
        self.remove(_paths_below(self.image) - files - {LOCK_OBJECT})
        last = [PROVENANCE, *DESCRIPTIONS]
        self.write({path: directory / path for path in files - {*sent, *last}})
        for path in last:
            if path in files:
                self.write({path: directory / path})

    def release(self, owner: str | None) -> None:
        """Say that no run is at work at the margin any more, unless another one has begun.

        Args:
            owner: what tells the runs of this directory from all others.

        Raises:
            MarginCacheError: the store does not answer.
        """
        claimed = read_output_lock(self._read(LOCK_OBJECT))
        if isinstance(claimed, dict) and claimed.get("owner") == owner:
            self.remove([LOCK_OBJECT])

    def _state(self, path: str) -> ObjectState | None:
        (state,) = self._store.run(self._store.states([joined(self.url, path)]))
        return state

    def _read(self, path: str) -> bytes:
        """Return the content of a small object; nothing if it is not there."""
        state = self._state(path)
        if state is None:
            return b""
        url = joined(self.url, path)
        return self._store.run(self._store.read(url, 0, state.size, (state.size, state.time)))


def _paths_below(directory: Path) -> set[str]:
    """Return the paths of all files, but of those that are not whole."""
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and not is_temporary(path.name)
    }
