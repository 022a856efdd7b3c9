"""Object stores: the interface to the objects below a URL, and `connect`, which opens it.

Amazon S3, Google Cloud Storage, Azure and web servers are reached with obstore, which also repeats
failed requests; everything else with fsspec, for reading only. A run without URLs imports neither.
"""

import gzip
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import is_file_path, join_url, protocol_of

Item = TypeVar("Item")
Result = TypeVar("Result")

_STATE_REQUESTS, _WRITE_REQUESTS = 64, 8
"""Concurrent requests for states, and for writing or deleting."""


class ObjectState(NamedTuple):
    """A version of an object: its size and ETag, or modification time if the store has no ETags."""

    size: int
    etag: str


class PreconditionFailed(MarginCacheError):
    """An object was not written, because its state is not the expected one."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: was changed by others.")


class ObjectChanged(MarginCacheError):
    """The object is not in the state that was given."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: changed after the run began. Start the run again.")


class PermissionDenied(MarginCacheError):
    """The store refuses a request. Some stores also answer so for objects that do not exist."""


class ObjectStore(ABC):
    """The objects below a URL, by their paths relative to it. Every thread may call the methods.

    Transient errors are repeated inside. All methods raise RetryableError when that did not help,
    `PermissionDenied`, or another MarginCacheError.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def url_of(self, path: str) -> str:
        return join_url(self.url, path)

    @abstractmethod
    def list(self) -> dict[str, ObjectState] | None:
        """Return the states of all objects below the URL; None if they cannot be listed.

        Names that cannot be files in a directory are left out: `a/`, and `a` beside `a/b`.
        """

    @abstractmethod
    def state(self, path: str) -> ObjectState | None:
        """Return the state of an object; None if it does not exist."""

    @abstractmethod
    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        """Return a small object and its state; None if it does not exist."""

    @abstractmethod
    def read_range(self, path: str, start: int, end: int, state: ObjectState) -> memoryview:
        """Return the bytes from `start` to before `end` of an object in a known state.

        Raises:
            ObjectChanged: it has another state, or does not exist.
        """

    def states(self, paths: Iterable[str]) -> dict[str, ObjectState]:
        """Return the states of those objects that exist, with many requests at a time."""
        paths = list(paths)
        states = parallel(self.state, paths, _STATE_REQUESTS)
        return {path: state for path, state in zip(paths, states, strict=True) if state is not None}

    def put(
        self,
        path: str,
        content: bytes | Path,
        *,
        if_absent: bool = False,
        if_match: ObjectState | None = None,
    ) -> ObjectState:
        """Write a whole object, from memory or from a file; return its state.

        Some stores that imitate S3 do not know conditions. There, the state is asked for before.

        Raises:
            PreconditionFailed: the condition does not hold. If an answer was lost, an earlier
                attempt of the same call may have written the object.
        """
        raise NotImplementedError(self.url)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete those objects that exist."""
        raise NotImplementedError(self.url)


def connect(url: str, options: Mapping[str, Any], side: str = "input") -> ObjectStore:
    """Return the store of the objects below a URL. No request for an object is made yet.

    ``side``, "input" or "output", selects the configuration keys that error messages name.
    """
    # Slow to import, and not needed for local catalogs.
    from margin_cache.storage import fsspec_store, obstore_store

    if protocol_of(url) in obstore_store.PROTOCOLS:
        return obstore_store.connect(url, options, side)
    return fsspec_store.FsspecStore(url, options, side)


def parallel(
    call: Callable[[Item], Result], items: Iterable[Item], requests: int = _WRITE_REQUESTS
) -> list[Result]:
    """Call a function for each item, in threads; return the results in their order.

    The first error is raised, and the calls that have not begun are left out. A single call is made
    without threads, because at the end of the interpreter none can be started.
    """
    items = list(items)
    if len(items) < 2:
        return list(map(call, items))
    with ThreadPoolExecutor(requests) as threads:
        return list(threads.map(call, items))


def files_among(objects: Mapping[str, ObjectState]) -> dict[str, ObjectState]:
    """Leave out objects that cannot be files, by their names, and the markers of directories.

    Some tools write an empty object `Norder=5/` for a directory; obstore drops its slash.
    """
    files = {
        path: state
        for path, state in objects.items()
        if is_file_path(path) and (state.size or PurePosixPath(path).suffix)
    }
    directories = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    return {path: state for path, state in files.items() if path not in directories}


def permission_denied(url: str, side: str) -> PermissionDenied:
    return PermissionDenied(
        f"{url}: permission denied, or there is no such file: some stores do not tell. Give "
        f"credentials in the environment, in the files of the store's own tools, or as "
        f"{side}_storage_options in a configuration file (anon: true for public buckets)."
    )


def without_user(text: str) -> str:
    """Return the first line of an error's message, without the user and password of a URL."""
    return re.sub(r"(://)[^/\s]*@", r"\1", (text.strip().splitlines() or [""])[0])[:200]


def decompressed(content: bytes, encoding: str | None) -> bytes:
    """Undo the compression that a server has applied to a file on its way."""
    if encoding == "gzip":
        with suppress(OSError, EOFError):
            return gzip.decompress(content)
    return content
