"""A margin in an object store, where nothing can be renamed and nothing is locked.

A run writes a lock object with a token of its own; another run with another token may take over
only in the same working directory. A margin is written in this order:

1. a provenance that says *unfinished* and lists all objects, old and new;
2. the files by which readers find a catalog are removed, then all objects of other content;
3. the missing objects are written, and all of them compared with a listing;
4. the provenance, and the files by which readers find a catalog.

So readers find a complete margin or none, and whatever a killed run leaves is known as its own.
A job that has outlived its run may be in the middle of this when the next run has taken over. It
looks for its token before each step, and each object is written on condition: a new one must not
exist, a replaced one must be the one that this job has seen. So it replaces no object of that run.
"""

import atexit
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from margin_cache.catalog.formats import is_margin
from margin_cache.catalog.hats import Collection, collection_of
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.spec import COLLECTION_PROPERTIES, DESCRIPTIONS
from margin_cache.errors import MarginCacheError
from margin_cache.margin.output import Draft, Output, SizeAndDigest, describe_run
from margin_cache.margin.paths import PROVENANCE
from margin_cache.storage.files import content_digest, read_json, unique_id, write_json
from margin_cache.storage.object_store import (
    ObjectState,
    PermissionDenied,
    PreconditionFailed,
    connect,
    parallel,
)
from margin_cache.storage.remote_files import RemoteFiles

LOCK = ".being_made.json"

_BATCH_BYTES, _BATCH_FILES = 64 << 20, 64
"""The token is checked before each batch of files. Its files are in memory at the same time."""

_ATTEMPTS = 10
"""Attempts to update a collection while other processes change it."""

_OWNER_FILE = Path(".snakemake", "margin_cache_owner.json")
"""Id of the working directory."""


class StoreOutput(Output):
    """Objects below a URL; jobs find the token of their run in ``token_file``."""

    def __init__(self, url: str, options: Mapping[str, Any], token_file: Path) -> None:
        self._url = url
        self._parent_url = url.rpartition("/")[0]
        self._options = options
        self._store = connect(url, options, "output")
        self._token_file = token_file

    # What is there. It is looked at once, until `refresh`.

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
        """Digest and ETag, by path, of the objects that the provenance lists."""
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
        found = {name: self._store.read(name) for name in DESCRIPTIONS if name in self._objects}
        return is_margin({name: each[0] for name, each in found.items() if each is not None})

    # The lock.

    def _read_lock(self) -> tuple[dict[str, Any], ObjectState] | None:
        """Return the content of the lock object, empty if it is damaged, and its state."""
        if (found := self._store.read(LOCK)) is None:
            return None
        with suppress(ValueError, TypeError):
            return dict(json.loads(found[0])), found[1]
        return {}, found[1]

    def check_free(self) -> None:
        if LOCK in self._objects and (found := self._read_lock()) and not _is_own(found[0]):
            raise self._in_use(found[0])
        inside = [path for path in self._objects if _marks_catalog(path) and "/" in path]
        if inside:
            raise MarginCacheError(
                f"output_path: {self._url} contains another catalog or margin, whose "
                f"{inside[0]} is there. Choose another output_path or output_artifact_name."
            )
        for url in _around(self._parent_url):
            store = connect(url, self._options, "output")
            with suppress(PermissionDenied):
                for name in store.states((*DESCRIPTIONS, LOCK)):
                    raise MarginCacheError(
                        f"output_path: {self._url} is inside another catalog or margin, which "
                        f"has {store.url_of(name)}. Choose another output_path."
                    )

    def _in_use(self, lock: Mapping[str, Any]) -> MarginCacheError:
        return MarginCacheError(
            f"output_path: {self._url} is being made by another run ({describe_run(lock)}). Resume "
            "that run, or choose another output_artifact_name. If that run has ended for good, "
            f"remove the object {self._store.url_of(LOCK)}."
        )

    def acquire(self, run: Mapping[str, Any]) -> None:
        found = self._read_lock()
        if found and not _is_own(found[0]):
            raise self._in_use(found[0])
        if read_json(_OWNER_FILE) is None:
            write_json(_OWNER_FILE, unique_id())
        self._token = unique_id()
        lock = {**run, "owner": read_json(_OWNER_FILE), "token": self._token}
        with suppress(PreconditionFailed):  # also after an answer that was lost
            self._put_over(LOCK, json.dumps(lock).encode(), found and found[1])
        if not self._has_lock():
            found = self._read_lock()
            raise self._in_use(found[0] if found else {})
        write_json(self._token_file, self._token)
        if not _acquired:
            atexit.register(release_all)
        _acquired.append(self)

    def is_left_locked(self) -> bool:
        return (
            LOCK in self._objects and (found := self._read_lock()) is not None and _is_own(found[0])
        )

    @cached_property
    def _token(self) -> str:
        """The token of this run, which the main process has saved for its jobs."""
        return str(read_json(self._token_file))

    def state(self) -> object:
        return self._has_lock()

    def _has_lock(self) -> bool:
        found = self._read_lock()
        return found is not None and found[0].get("token") == self._token

    def _check_lock(self) -> None:
        if not self._has_lock():
            raise MarginCacheError(
                f"{self._url}: this run does not have the lock any more. Start the run again."
            )

    def release(self) -> None:
        if self._has_lock():
            self._store.delete([LOCK])

    # Writing.

    def upload(
        self, directory: Path, listed: Mapping[str, SizeAndDigest], draft: Draft
    ) -> dict[str, str]:
        kept = {p: self._objects[p].etag for p, file in listed.items() if self.has(p, file)}
        content = json.dumps(draft(kept, self._token)).encode()
        self._check_lock()
        self._draft = self._put(PROVENANCE, content, self._provenance and self._provenance[1])
        self._check_lock()
        self._store.delete([name for name in DESCRIPTIONS if name in self._objects])
        self._store.delete([p for p in self.paths() if p not in {*kept, PROVENANCE, *DESCRIPTIONS}])
        new = {path: size for path, (size, _) in listed.items() if path not in kept}
        etags = kept | self._write_new(directory, new)
        self.refresh()
        found = {p: state.etag for p, state in self._objects.items() if p not in (LOCK, PROVENANCE)}
        if found != etags:
            changed = min(path for path, _ in found.items() ^ etags.items())
            raise MarginCacheError(
                f"{self._store.url_of(changed)}: was changed by another run or program meanwhile. "
                "Start the run again."
            )
        return etags

    def _write_new(self, directory: Path, sizes: Mapping[str, int]) -> dict[str, str]:
        etags: dict[str, str] = {}
        for batch in _batches(sizes):
            self._check_lock()
            states = parallel(lambda path: self._put(path, directory / path, None), batch)
            etags |= {path: state.etag for path, state in zip(batch, states, strict=True)}
        return etags

    def publish(self, directory: Path, backup: Path) -> None:
        self._check_lock()
        self._put(PROVENANCE, directory / PROVENANCE, self._draft)
        for name in reversed(DESCRIPTIONS):
            if (directory / name).exists():
                self._put(name, directory / name, None)
        self.refresh()

    def _put(self, path: str, content: bytes | Path, replaced: ObjectState | None) -> ObjectState:
        """Write an object in the place of a known one, or of none; return its state."""
        try:
            return self._put_over(path, content, replaced)
        except PreconditionFailed:
            found, wanted = self._store.read(path), content
            if found is None or found[0] != (
                wanted.read_bytes() if isinstance(wanted, Path) else wanted
            ):
                raise MarginCacheError(
                    f"{self._store.url_of(path)}: was written by another run meanwhile. Start the "
                    "run again."
                ) from None
            return found[1]  # the answer to an earlier attempt was lost

    def _put_over(
        self, path: str, content: bytes | Path, replaced: ObjectState | None
    ) -> ObjectState:
        return self._store.put(path, content, if_absent=replaced is None, if_match=replaced)

    # The collection around the margin.

    @cached_property
    def _collection(self) -> tuple[Collection, ObjectState] | None:
        store = connect(self._parent_url, self._options, "output")
        with suppress(PermissionDenied):
            if found := store.read(COLLECTION_PROPERTIES):
                return collection_of(self._parent_url, found[0]), found[1]
        return None

    def collection(self, info: CatalogInfo) -> Collection | None:
        found = self._collection
        return found[0] if found is not None and found[0].is_of(info) else None

    def register(self, info: CatalogInfo, may_be_default: bool) -> None:
        store = connect(self._parent_url, self._options, "output")

        for _ in range(_ATTEMPTS):
            self.__dict__.pop("_collection", None)
            if (found := self._collection) is None or not found[0].is_of(info):
                return
            collection, state = found
            after = collection.with_margin(self._url, may_be_default)
            if after == collection.text:
                return
            with suppress(PreconditionFailed):
                store.put(COLLECTION_PROPERTIES, after.encode(), if_match=state)
        raise MarginCacheError(
            f"{store.url_of(COLLECTION_PROPERTIES)}: changed by others {_ATTEMPTS} times. Start "
            "the run again."
        )


_acquired: list[StoreOutput] = []
"""Those that this process has locked. A run that has failed lets others make the margin."""


def release_all() -> None:
    while _acquired:
        with suppress(MarginCacheError):
            _acquired.pop().release()


def _is_own(lock: Mapping[str, Any]) -> bool:
    """Return whether a lock is of a run of this directory."""
    return "owner" in lock and lock["owner"] == read_json(_OWNER_FILE)


def _marks_catalog(path: str) -> bool:
    return path.rpartition("/")[2] in (*DESCRIPTIONS, LOCK)


def _around(url: str) -> Iterator[str]:
    """Yield a URL, and those of the directories around it, up to the bucket."""
    while not url.endswith("/"):
        yield url
        url = url.rpartition("/")[0]


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield paths together whose files fit into memory; a large one is alone."""
    batch: list[str] = []
    total = 0
    for path, size in sizes.items():
        if batch and (len(batch) == _BATCH_FILES or total + size > _BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(path)
        total += size
    if batch:
        yield batch
