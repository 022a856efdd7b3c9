"""Files on disk or at URLs, as audits read them with PyArrow."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.audit.request import Options
from margin_cache.errors import MarginCacheError
from margin_cache.storage.object_store import ObjectState, ObjectStore, PermissionDenied, connect
from margin_cache.storage.remote_files import RangeReader
from margin_cache.storage.urls import is_url

PROPERTIES = ("hats.properties", "properties")


class UnreadableFile(MarginCacheError):
    """A file of a catalog is missing or damaged; no request has failed."""


@dataclass(frozen=True)
class RemotePath:
    """An object of a store, or a directory of objects, where `Path` is one on disk."""

    store: ObjectStore
    path: str = ""

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.store, f"{self.path}/{name}".lstrip("/"))

    def __str__(self) -> str:
        return self.store.url_of(self.path)

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.store, self.path.rpartition("/")[0])


AnyPath = Path | RemotePath


def open_location(location: str, options: Options = None) -> AnyPath:
    return RemotePath(connect(location, options or {})) if is_url(location) else Path(location)


@contextmanager
def open_parquet(path: AnyPath) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, of which only the needed ranges are read; errors name it."""
    try:
        source = path if isinstance(path, Path) else pa.PythonFile(_open(path), mode="r")
        with pq.ParquetFile(source, pre_buffer=not isinstance(path, Path)) as file:
            yield file
    except PermissionDenied as error:  # as some stores answer for what does not exist
        raise UnreadableFile(str(error)) from error
    except MarginCacheError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UnreadableFile(f"{path}: cannot be read: {error}") from error


def _open(path: RemotePath) -> RangeReader:
    store, state = path.store, path.store.state(path.path)
    if state is None:
        raise UnreadableFile(f"{path}: cannot be read: there is no such file")
    return RangeReader(
        lambda start, end: store.read_range(path.path, start, end, state), state.size
    )


def read_bytes(path: AnyPath) -> bytes | None:
    """Return the content of a small file; None if there is none."""
    try:
        if isinstance(path, Path):
            return path.read_bytes()
        found = path.store.read(path.path)
    except (OSError, PermissionDenied):
        return None
    return None if found is None or _is_page(found[0]) else found[0]


def _is_page(content: bytes) -> bool:
    """Return whether a server has sent a page that says that there is no such file."""
    return content.lstrip().startswith(b"<")


def read_json(path: AnyPath) -> dict[str, Any]:
    """Return the object in a JSON file; {} if there is none, or something else."""
    try:
        values = json.loads(read_bytes(path) or b"")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def is_there(path: AnyPath) -> bool:
    if isinstance(path, Path):
        return path.exists()
    try:
        state = path.store.state(path.path)
    except PermissionDenied:
        return False
    if state is None:
        return False
    return not _is_page(bytes(path.store.read_range(path.path, 0, min(64, state.size), state)))


@cache
def _objects(store: ObjectStore) -> dict[str, ObjectState] | None:
    return store.list()


def names_below(directory: AnyPath) -> list[str] | None:
    """Return the names of all files below a directory, relative to it; None if not listed."""
    if isinstance(directory, Path):
        walk = os.walk(directory, followlinks=True)
        paths = (Path(place, name) for place, _, names in walk for name in names)
        return [str(path.relative_to(directory)) for path in paths]
    objects = _objects(directory.store)
    start = f"{directory.path}/".lstrip("/")
    if objects is None:
        return None
    return [name.removeprefix(start) for name in objects if name.startswith(start)]


def download_files(path: RemotePath, names: Sequence[str], directory: str) -> set[str]:
    """Copy those of some small files that exist into a directory; return their names."""
    found = {name: content for name in names if (content := read_bytes(path / name)) is not None}
    for name, content in found.items():
        Path(directory, name).write_bytes(content)
    return set(found)


def state_at_url(location: str, options: Options = None) -> str:
    """Return a digest of the names, sizes and versions of all files at a URL.

    Where a server does not list its files, as those of http, it is a digest of the metadata.
    """
    path = RemotePath(connect(location, options or {}))
    objects = path.store.list()
    if objects is None:
        names = ("catalog_info.json", *PROPERTIES, "provenance_info.json", "partition_info.csv")
        values = [read_bytes(path / name) for name in names]
        state = b"/".join(hashlib.blake2b(value or b"").digest() for value in values)
    else:
        state = repr(sorted(objects.items())).encode()
    return hashlib.blake2b(state, digest_size=16).hexdigest()
