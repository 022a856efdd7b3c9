"""Where a margin is written: a local directory, or a bucket.

The objects of a bucket are in a local listing, so code that looks at a margin on disk works for
both. A local margin is built in another directory and moved when it is complete. Buckets cannot
move a directory, so objects are written to their final names: the metadata is removed before the
first of them, and written last, so that readers find a complete margin or none.
"""

import atexit
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from margin_cache.catalog.formats import format_of
from margin_cache.catalog.hats import read_properties
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.spec import COLLECTION_PROPERTIES, NORDER, HatsKey
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin, NamedMargin
from margin_cache.margin.output_lock import (
    LOCK_OBJECT,
    METADATA_FILES,
    OutputLock,
    in_use,
    parse_output_lock,
    run_token,
)
from margin_cache.margin.paths import PROVENANCE, MarginFiles, is_being_made
from margin_cache.margin.storage_options import load_options
from margin_cache.storage.files import is_temporary, write_text
from margin_cache.storage.local_listing import LocalListing, register_listing
from margin_cache.storage.old_object_store import ObjectState, PreconditionFailed, connect
from margin_cache.storage.urls import is_url, join_url, output_listing_dir

_SMALL_BYTES = 1 << 20
"""Objects up to this size, other than partitions, are compared by content."""

_PARALLEL_BYTES = 16 << 20
"""Files up to this size are written in parallel, larger ones one by one: each is in memory."""

_ATTEMPTS = 10
"""Attempts to update a collection while other processes change it."""


class Output:
    """A local directory. It has its locks beside it, and all its files are moved there at once."""

    def __init__(self, output_dir: Path) -> None:
        self._dir = output_dir

    def check_lock(self, margin: Margin) -> None:
        """Check that a run of this directory with the same plan and input has the lock."""

    def write(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Write objects, given by their paths in the margin; return their ETags.

        The modification times of the files are set to those that represent the objects.
        """
        return {}

    def publish(self, directory: Path, written: Collection[str]) -> None:
        """Remove foreign objects and write the missing ones, metadata last.

        Args:
            directory: all files of the margin; those that are written have no content.
            written: paths of the objects that are written.
        """

    def register(self, info: CatalogInfo, may_be_default: bool = True) -> None:
        """Add the margin to the collection around it, if that has its primary catalog."""
        format_of(info).register(info, self._dir, may_be_default)

    def release_lock(self, margin: Margin) -> None:
        """Remove the lock, unless a run of another directory has it."""


class RemoteOutput(Output):
    """A directory in a bucket, and its local listing.

    Args:
        url: the URL of the margin.
        listing_dir: the directory of the local listing.
        options: fsspec's storage options.

    Raises:
        MarginCacheError: the driver is missing, or rejects the options.
    """

    def __init__(self, url: str, listing_dir: Path, options: Mapping[str, Any]) -> None:
        super().__init__(listing_dir)
        self.url = url
        self._parent_url = url.rpartition("/")[0]
        self._store = connect(url, options, "output")
        self.listing = LocalListing(listing_dir, url, self._store)

    def __enter__(self) -> "RemoteOutput":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._store.close()

    def refresh(self) -> None:
        """Update the local listing.

        Raises:
            MarginCacheError: the bucket cannot be listed.
        """
        try:
            states = self._store.run(self._store.list_objects(self.url))
        except FileNotFoundError:
            raise MarginCacheError(
                f"output_path: the bucket of {self.url} does not exist. Create it."
            ) from None
        if states is None:
            raise MarginCacheError(
                f"output_path: listing {self.url} is not permitted. Allow these credentials to "
                "list the bucket."
            )
        small = {
            path: state
            for path, state in states.items()
            if path == PROVENANCE or (state.size <= _SMALL_BYTES and f"{NORDER}=" not in path)
        }
        self.listing.download(small)
        self.listing.add({path: state for path, state in states.items() if path not in small})
        if self._dir.is_dir():
            self.listing.remove_others(states)

    def refresh_collection(self, info: CatalogInfo) -> str | None:
        """Update the local copy of the properties of the collection around the margin.

        If the margin's primary catalog is in the collection, a link leads to its local listing.

        Returns:
            The ETag of the properties, None if there are none.
        """
        (state,) = self._store.run(self._store.states([self._collection_url]))
        path = self._dir.parent / COLLECTION_PROPERTIES
        if state is None:
            path.unlink(missing_ok=True)
            return None
        LocalListing(self._dir.parent, self._parent_url, self._store).download(
            {COLLECTION_PROPERTIES: state}
        )
        primary = read_properties(path).get(HatsKey.PRIMARY, "")
        link = self._dir.parent / primary
        if info.url and info.url == join_url(self._parent_url, primary) and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(Path(info.path).absolute())
        return state.etag

    def register(self, info: CatalogInfo, may_be_default: bool = True) -> None:
        path = self._dir.parent / COLLECTION_PROPERTIES
        for _ in range(_ATTEMPTS):
            etag = self.refresh_collection(info)
            if etag is None:
                return
            before = path.read_bytes()
            states = self._store.run(self._store.list_objects(self._parent_url)) or {}
            size = sum(
                state.size for name, state in states.items() if name != COLLECTION_PROPERTIES
            )
            format_of(info).register(info, self._dir, may_be_default, size)
            after = path.read_bytes()
            if after == before:
                return
            try:
                write = self._store.write(self._collection_url, partial(bytes, after), etag)
                self._store.run(write)
                return
            except PreconditionFailed:
                path.unlink()
        raise MarginCacheError(
            f"{self._collection_url}: changed by others {_ATTEMPTS} times. Start the run again."
        )

    def write(self, files: Mapping[str, Path]) -> dict[str, str]:
        etags = {}
        for path, writing in self._start_writes(files):
            state = writing.result()
            etags[path] = state.etag
            os.utime(files[path], ns=(state.stamp.mtime_ns, state.stamp.mtime_ns))
        return etags

    def _start_writes(self, files: Mapping[str, Path]) -> Iterator[tuple[str, Future[ObjectState]]]:
        is_small = {path: file.stat().st_size <= _PARALLEL_BYTES for path, file in files.items()}
        yield from [
            (path, self._start_write(path, files[path])) for path in files if is_small[path]
        ]
        for path, file in files.items():
            if not is_small[path]:
                yield path, self._start_write(path, file)

    def _start_write(self, path: str, file: Path) -> Future[ObjectState]:
        return self._store.submit(self._store.write(join_url(self.url, path), file.read_bytes))

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects, from the local listing as well."""
        paths = list(paths)
        self._store.run(self._store.remove([join_url(self.url, path) for path in paths]))
        for path in paths:
            (self._dir / path).unlink(missing_ok=True)

    def remove_metadata(self) -> None:
        """Remove the files by which readers find a catalog."""
        for name in reversed(METADATA_FILES):
            if (self._dir / name).exists():
                self.remove([name])

    def acquire_lock(self, lock: OutputLock) -> None:
        """Write the lock object, and abort the uploads that killed processes have left.

        Raises:
            MarginCacheError: a run of another directory has the lock.
        """
        state = self._state(LOCK_OBJECT)
        current = parse_output_lock(self._read(LOCK_OBJECT)) if state else None
        if state and (current is None or current.run_token != lock.run_token):
            raise in_use(self.url, current)
        url, content = join_url(self.url, LOCK_OBJECT), lock.encoded()
        try:
            self._store.run(self._store.write(url, lambda: content, state.etag if state else ""))
        except PreconditionFailed:
            stored = self._read(LOCK_OBJECT)
            if stored != content:  # otherwise an earlier attempt has written it
                raise in_use(self.url, parse_output_lock(stored)) from None
        self._store.run(self._store.abort_uploads(self.url))
        write_text(self._dir / LOCK_OBJECT, content.decode())

    def check_lock(self, margin: Margin) -> None:
        lock = parse_output_lock(self._read(LOCK_OBJECT))
        if lock is None or not lock.is_for(margin):
            raise MarginCacheError(
                f"{self.url}: this run does not have the lock any more. Start the run again."
            )

    def publish(self, directory: Path, written: Collection[str]) -> None:
        files = _paths_below(directory)
        self.remove(_paths_below(self._dir) - files - {LOCK_OBJECT})
        last = [PROVENANCE, *METADATA_FILES]
        self.write({path: directory / path for path in files - {*written, *last}})
        for path in last:
            if path in files:
                self.write({path: directory / path})

    def release_lock(self, margin: Margin) -> None:
        lock = parse_output_lock(self._read(LOCK_OBJECT))
        if lock is not None and lock.run_token == run_token(margin.files):
            self.remove([LOCK_OBJECT])

    @property
    def _collection_url(self) -> str:
        return join_url(self._parent_url, COLLECTION_PROPERTIES)

    def _state(self, path: str) -> ObjectState | None:
        (state,) = self._store.run(self._store.states([join_url(self.url, path)]))
        return state

    def _read(self, path: str) -> bytes:
        """Return the content of a small object; b"" if it does not exist."""
        state = self._state(path)
        if state is None:
            return b""
        url = join_url(self.url, path)
        return self._store.run(self._store.read(url, 0, state.size, state.stamp))


def _paths_below(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and not is_temporary(path.name)
    }


def remote_output(files: MarginFiles, options: Mapping[str, Any] | None = None) -> RemoteOutput:
    """Connect to the bucket of a margin.

    Args:
        files: the files of the margin.
        options: fsspec's storage options; None for those that were saved for jobs.
    """
    if options is None:
        options = load_options(files.output_storage_file)
    return RemoteOutput(files.url, files.output_dir, options)


@contextmanager
def open_output(margin: Margin) -> Iterator[Output]:
    """Yield the output location; for a bucket, refresh its listing first."""
    if not margin.files.url:
        yield Output(margin.files.output_dir)
        return
    with remote_output(margin.files) as output:
        output.refresh()
        output.refresh_collection(margin.plan.parameters.catalog)
        yield output


def use_output_listing(files: MarginFiles) -> None:
    """Let this process download what it reads of a margin in a bucket."""
    output = remote_output(files)
    atexit.register(output.close)
    register_listing(output.listing)


def listing_dir_of(settings: MarginSettings) -> str:
    """Return the directory of the local listing of `output_path`; "" if that is a local path."""
    if not is_url(settings.output_path):
        return ""
    return str(output_listing_dir(settings.output_path, settings.output_storage_options))


def refresh_output_listings(margins: Iterable[NamedMargin]) -> None:
    """Refresh the local listings of output buckets, unless a run of this directory uses them.

    Raises:
        MarginCacheError: a bucket cannot be listed.
    """
    for margin in margins:
        directory = listing_dir_of(margin.settings)
        if directory and not is_being_made(Path(directory) / margin.name):
            url = join_url(margin.settings.output_path, margin.name)
            options = margin.settings.output_storage_options
            with RemoteOutput(url, Path(directory) / margin.name, options) as output:
                output.refresh()
                output.refresh_collection(margin.info)


def check_output_urls(margins: Iterable[NamedMargin]) -> None:
    """Check that the URLs of margins do not overlap with those of catalogs or other margins.

    Raises:
        MarginCacheError: one is.
    """
    margins = list(margins)
    primaries = {margin.info.url for margin in margins} - {""}
    used = [(url, "the input catalog") for url in sorted(primaries)]
    for margin in margins:
        if not is_url(margin.settings.output_path):
            continue
        url = join_url(margin.settings.output_path, margin.name)
        for other, owner in used:
            if _contains(url, other) or _contains(other, url):
                raise MarginCacheError(
                    f"output_path: {url} overlaps with {owner} {other}. Choose another output_path."
                )
        used.append((url, "another margin"))


def _contains(url: str, other: str) -> bool:
    url, other = (address.replace("s3a://", "s3://", 1) for address in (url, other))
    return f"{other}/".startswith(f"{url}/")
