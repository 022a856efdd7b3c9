"""A margin in an object store, where nothing can be renamed and nothing is locked.

A run writes a lock object with a token of its own. Only a run of the same working directory, the
owner, may take over, with another token. The order in which objects are written and removed lets
readers find a complete margin or none, and whatever a killed run leaves is known as its own.

A job that has outlived its run replaces no object of the next run: it looks for its token before
each step, and writes each object on condition that there is none, or the one that it has seen.
"""

import atexit
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from margin_cache.catalog.formats import is_margin
from margin_cache.catalog.hats import Collection
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.spec import COLLECTION_PROPERTIES, DESCRIPTIONS
from margin_cache.errors import MarginCacheError
from margin_cache.margin.output import Draft, Output, SizeAndDigest, describe_run
from margin_cache.margin.paths import PROVENANCE
from margin_cache.storage.files import content_digest, read_json, unique_id, write_json
from margin_cache.storage.object_store import (
    ObjectState,
    ObjectStore,
    PermissionDenied,
    PreconditionFailed,
    connect,
    parallel,
)
from margin_cache.storage.remote_files import RemoteFiles

LOCK = ".being_made.json"

_BATCH_BYTES = 64 << 20  # of files that are in memory at the same time, after a look at the token
_ATTEMPTS = 10  # attempts to update a collection while other processes change it
_OWNER_FILE = Path(".snakemake", "margin_cache_owner.json")  # id of the working directory


class StoreOutput(Output):
    """Objects below a URL; jobs find the token of their run in ``token_file``."""

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        catalog_options: Mapping[str, Any],
        token_file: Path,
    ) -> None:
        self._url = url
        self._parent_url = url.rpartition("/")[0]
        self._options = options
        self._catalog_options = catalog_options
        self._store = connect(url, options, "output")
        self._token_file = token_file

    def refresh(self) -> None:
        for name in ("_objects", "_provenance", "_written"):
            self.__dict__.pop(name, None)

    @cached_property
    def _objects(self) -> dict[str, ObjectState]:
        objects = self._store.list()
        if objects is None:
            raise MarginCacheError(
                f"output_path: {self._url} cannot be listed. Allow these credentials to list "
                "it, and remove objects that have // in their names."
            )
        return objects

    @cached_property
    def _provenance(self) -> tuple[bytes, ObjectState] | None:
        return self._store.read(PROVENANCE) if PROVENANCE in self._objects else None

    @cached_property
    def _written(self) -> dict[str, tuple[str, str]]:
        """Digests and ETags of the objects that the provenance lists."""
        try:
            arguments = self.read_json(PROVENANCE)["tool_args"]["runtime_args"]
            files, etags = arguments["files"], arguments["objects"]
            return {path: (files[path][1], etag) for path, etag in etags.items()}
        except (TypeError, KeyError, AttributeError):  # another tool's provenance
            return {}

    def paths(self) -> list[str]:
        return sorted(self._objects.keys() - {LOCK})

    def read_json(self, path: str) -> Any:
        found = self._provenance if path == PROVENANCE else self._store.read(path)
        try:
            return json.loads(found[0]) if found else None
        except ValueError:
            return None

    def open_parquet(self, path: str) -> pq.ParquetFile:
        return RemoteFiles(self._url, self._objects, lambda: self._store).open_parquet(path)

    def has(self, path: str, listed: SizeAndDigest) -> bool:
        state, (size, digest) = self._objects.get(path), listed
        if state is None or state.size != size:
            return False
        if path in DESCRIPTIONS:  # without an ETag in the provenance, which is written before
            found = self._store.read(path)
            return found is not None and content_digest(found[0]) == digest
        return self._written.get(path) == (digest, state.etag)

    def is_margin(self) -> bool:
        found = ((name, self._store.read(name)) for name in DESCRIPTIONS if name in self._objects)
        return is_margin({name: content[0] for name, content in found if content is not None})

    def _read_lock(self) -> tuple[dict[str, Any], ObjectState | None]:
        """Return what the lock object says, {} if it is missing or damaged, and its state."""
        content, state = self._store.read(LOCK) or (b"", None)
        with suppress(ValueError, TypeError):
            return dict(json.loads(content)), state
        return {}, state

    def check_free(self) -> None:
        lock, state = self._read_lock()
        if state is not None and not _is_own(lock):
            raise self._in_use(lock)
        marks = (*DESCRIPTIONS, LOCK)
        inner_marks = tuple(f"/{name}" for name in marks)
        others = [self._store.url_of(path) for path in self._objects if path.endswith(inner_marks)]
        url = self._parent_url
        while not url.endswith("/"):  # up to the bucket
            store = connect(url, self._options, "output")
            with suppress(PermissionDenied):
                others += map(store.url_of, store.states(marks, optional=True))
            url = url.rpartition("/")[0]
        if others:
            raise MarginCacheError(
                f"output_path: {self._url} is inside another catalog or margin, or around it "
                f"({others[0]}). Choose another output_path or output_artifact_name."
            )

    def _in_use(self, lock: Mapping[str, Any]) -> MarginCacheError:
        return MarginCacheError(
            f"output_path: {self._url} is being made by another run ({describe_run(lock)}). Resume "
            "that run, or choose another output_artifact_name. If that run has ended for good, "
            f"remove the object {self._store.url_of(LOCK)}."
        )

    def acquire(self, run: Mapping[str, Any]) -> None:
        lock, state = self._read_lock()
        if state is not None and (not _is_own(lock) or _is_of_other_process(lock)):
            raise self._in_use(lock)
        if read_json(_OWNER_FILE) is None:
            write_json(_OWNER_FILE, unique_id())
        self._token = unique_id()
        own = {**run, "owner": read_json(_OWNER_FILE), "token": self._token}
        # A run that has failed lets others make the margin, also if the answer to this is lost.
        atexit.register(self.release)
        with suppress(PreconditionFailed):
            self._store.put(LOCK, json.dumps(own).encode(), state)
        if not self._has_lock():
            raise self._in_use(self._read_lock()[0])
        write_json(self._token_file, self._token)

    def is_left_locked(self) -> bool:
        return _is_own(self._read_lock()[0])

    @cached_property
    def _token(self) -> str:
        return str(read_json(self._token_file))

    def state(self) -> object:
        return self._has_lock()

    def _has_lock(self) -> bool:
        return self._read_lock()[0].get("token") == self._token

    def _check_lock(self) -> None:
        if not self._has_lock():
            raise MarginCacheError(
                f"{self._url}: this run does not have the lock any more. Start the run again."
            )

    def release(self) -> None:
        atexit.unregister(self.release)
        try:
            if self._has_lock():
                self._store.delete([LOCK])
        except MarginCacheError as error:  # the next run of this directory takes over
            print(f"warning: {self._store.url_of(LOCK)} stays: {error}", file=sys.stderr)

    def upload(
        self, directory: Path, listed: Mapping[str, SizeAndDigest], draft: Draft
    ) -> dict[str, str]:
        kept = {p: self._objects[p].etag for p, file in listed.items() if self.has(p, file)}
        # First a provenance that says "unfinished", and lists all objects, old and new.
        content = json.dumps(draft(kept, self._token)).encode()
        self._check_lock()
        self._draft = self._store.put(PROVENANCE, content, self._provenance and self._provenance[1])
        # Then readers must not find the older margin any more.
        self._check_lock()
        self._store.delete([name for name in DESCRIPTIONS if name in self._objects])
        self._store.delete([p for p in self.paths() if p not in {*kept, PROVENANCE, *DESCRIPTIONS}])
        etags = dict(kept)
        for batch in _batches({p: size for p, (size, _) in listed.items() if p not in kept}):
            self._check_lock()
            states = parallel(lambda path: self._store.put(path, directory / path, None), batch)
            etags |= {path: state.etag for path, state in zip(batch, states, strict=True)}
        self.refresh()
        found = {p: state.etag for p, state in self._objects.items() if p not in (LOCK, PROVENANCE)}
        if found != etags:
            raise self._changed(min(path for path, _ in found.items() ^ etags.items()))
        return etags

    def publish(self, directory: Path, backup: Path) -> None:
        written: dict[str, ObjectState] = {}
        try:
            for name in (PROVENANCE, *reversed(DESCRIPTIONS)):
                if (directory / name).exists():
                    self._check_lock()
                    replaced = self._draft if name == PROVENANCE else None
                    written[name] = self._store.put(name, directory / name, replaced)
                    if written[name] != self._store.state(name):
                        raise self._changed(name)
            self._check_lock()
        except MarginCacheError:
            if not self._has_lock():
                # With a description, the margin that another run is making could be opened.
                own = [name for name in DESCRIPTIONS if name in written]
                self._store.delete([p for p in own if self._store.state(p) == written[p]])
            raise
        self.refresh()

    def _changed(self, path: str) -> MarginCacheError:
        return MarginCacheError(
            f"{self._store.url_of(path)}: was changed by another run or program meanwhile, or lost "
            "by the store. Start the run again."
        )

    @cached_property
    def _parent(self) -> ObjectStore:
        return connect(self._parent_url, self._options, "output")

    def _read_collection(self, info: CatalogInfo) -> tuple[Collection, ObjectState] | None:
        """Return the collection, if the catalog is its primary table, and the state of its file."""
        with suppress(PermissionDenied):
            if found := self._parent.read(COLLECTION_PROPERTIES):
                collection = Collection(self._parent_url, found[0])
                if collection.is_of(info) and self._is_beside(info):
                    return collection, found[1]
        return None

    def _is_beside(self, info: CatalogInfo) -> bool:
        """Return whether the catalog is in the store of the margin, not in one with equal URLs."""
        return (
            self._catalog_options == self._options
            or connect(info.path, self._catalog_options, "input").server == self._parent.server
        )

    def collection(self, info: CatalogInfo) -> Collection | None:
        found = self._read_collection(info)
        return found and found[0]

    def register(self, info: CatalogInfo, may_be_default: bool) -> None:
        for _ in range(_ATTEMPTS):
            if (found := self._read_collection(info)) is None:
                return
            collection, state = found
            after = collection.with_margin(self._url, may_be_default)
            if after == collection.text:
                return
            with suppress(PreconditionFailed):
                self._parent.put(COLLECTION_PROPERTIES, after.encode(), state)
        raise MarginCacheError(
            f"{self._parent.url_of(COLLECTION_PROPERTIES)}: changed by others {_ATTEMPTS} times. "
            "Start the run again."
        )


def _is_own(lock: Mapping[str, Any]) -> bool:
    """Return whether a lock is that of a run of this directory, or of a copy of it."""
    return "owner" in lock and lock["owner"] == read_json(_OWNER_FILE)


def _is_of_other_process(lock: Mapping[str, Any]) -> bool:
    """Return whether the main process that has a lock is another one of this host, at work."""
    process = lock.get("process")
    if process == os.getpid() or lock.get("host") != platform.node():
        return False
    with suppress(OSError):  # no such process, or no /proc
        return b"snakemake" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Divide paths into parts whose files fit into memory."""
    ends = zip(sizes, accumulate(sizes.values()), strict=True)
    for _, batch in groupby(ends, key=lambda path_and_end: path_and_end[1] // _BATCH_BYTES):
        yield [path for path, _ in batch]
