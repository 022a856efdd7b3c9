"""Object stores: the interface to the objects below a URL, and `connect`, which opens it.

Amazon S3, Google Cloud Storage, Azure and web servers are reached with obstore (`obstore_store`),
which also repeats failed requests; everything else, as hf:// and sftp://, with the drivers of
fsspec, for reading only. A run without URLs imports neither.
"""

import re
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Thread, current_thread, main_thread
from typing import Any, NamedTuple, TypeVar

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.urls import is_file_path, join_url, protocol_of

Item = TypeVar("Item")
Result = TypeVar("Result")

_STATE_REQUESTS, _WRITE_REQUESTS = 64, 8  # concurrent requests

_PAUSE = 0.2  # [s] of one wait: an interrupt ends none in a process that has used Polars

_ETAG_NAMES = (
    *("ETag", "etag", "blob_id", "sha", "mtime", "modified", "last_modified", "modify"),
    *("modificationTime", "created"),
)
"""Names of an ETag or a time that drivers of fsspec use, the preferred one first."""


class ObjectState(NamedTuple):
    """A version of an object: its size and ETag, or modification time if the store has no ETags."""

    size: int
    etag: str  # "" if the server tells neither


class PreconditionFailed(MarginCacheError):
    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: was written by another run meanwhile. Start the run again.")


class ObjectChanged(MarginCacheError):
    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: changed after the run began. Start the run again.")


class PermissionDenied(MarginCacheError):
    """The store refuses a request. Some stores also answer so for objects that do not exist."""

    def __init__(self, url: str, side: str, reason: str = "") -> None:
        reason = reason or "permission denied, or there is no such file: some stores do not tell"
        super().__init__(
            f"{url}: {reason}. Give credentials in the environment, in the files of the store's "
            f"own tools, or as {side}_storage_options in a configuration file (anon: true for "
            "public buckets)."
        )


class ObjectStore(ABC):
    """The objects below a URL, by their paths relative to it. Every thread may call the methods.

    Transient errors are repeated inside. All methods raise RetryableError when that did not help,
    `PermissionDenied`, or another MarginCacheError.

    Attributes:
        server: endpoint and account: stores that differ in them may have other objects of one URL.
    """

    server = ""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def url_of(self, path: str) -> str:
        return join_url(self.url, path)

    @abstractmethod
    def list(self) -> dict[str, ObjectState] | None:
        """Return the states of all objects that can be files; None if they cannot be listed."""

    @abstractmethod
    def state(self, path: str) -> ObjectState | None:
        """Return None for an object that does not exist."""

    @abstractmethod
    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        """Return a small object and its state; None if it does not exist."""

    @abstractmethod
    def read_range(self, path: str, start: int, end: int, state: ObjectState) -> memoryview:
        """Return a part of an object in a known state; otherwise raise ObjectChanged."""

    def states(self, paths: Iterable[str], optional: bool = False) -> dict[str, ObjectState]:
        """Return the states of those objects that exist.

        Some stores refuse what does not exist. If all ``optional`` objects are refused, the
        permission is missing.
        """
        denied: list[PermissionDenied] = []

        def state(path: str) -> ObjectState | None:
            try:
                return self.state(path)
            except PermissionDenied as error:
                if not optional:
                    raise
                denied.append(error)
                return None

        paths = list(paths)
        states = zip(paths, parallel(state, paths, _STATE_REQUESTS), strict=True)
        found = {path: state for path, state in states if state is not None}
        if denied and not found:
            raise denied[0]
        return found

    def put(self, path: str, content: bytes | Path, replaced: ObjectState | None) -> ObjectState:
        """Write an object in the place of a known one or of none, or raise PreconditionFailed."""
        try:
            return self._put(path, content, replaced)
        except PreconditionFailed:
            wanted = content.read_bytes() if isinstance(content, Path) else content
            found = self.read(path)
            if found is None or found[0] != wanted:
                raise
            return found[1]  # the answer to an earlier attempt was lost

    def _put(self, path: str, content: bytes | Path, replaced: ObjectState | None) -> ObjectState:
        raise NotImplementedError(self.url)

    def delete(self, paths: Iterable[str]) -> None:
        raise NotImplementedError(self.url)


def connect(url: str, options: Mapping[str, Any], side: str = "input") -> ObjectStore:
    """Return the store of a URL; errors name the storage options of a side, "input" or "output"."""
    # Slow to import, and not needed for local catalogs.
    from margin_cache.storage import obstore_store

    if protocol_of(url) in obstore_store.PROTOCOLS:
        return obstore_store.connect(url, options, side)
    return _FsspecStore(url, options, side)


def parallel(
    call: Callable[[Item], Result], items: Iterable[Item], requests: int = _WRITE_REQUESTS
) -> list[Result]:
    """Call a function for each item, in threads; return the results in their order."""
    items = list(items)
    return _in_threads(call, items, requests) if len(items) > 1 else list(map(call, items))


def result_of(future: Future[Result]) -> Result:
    """Wait for a result, or for an interrupt."""
    while not wait([future], _PAUSE).done:
        pass
    return future.result()


def interruptible(call: Callable[[], Result]) -> Result:
    """Call a function that cannot be interrupted, so that Ctrl-C does not wait for its end."""
    if current_thread() is not main_thread() or sys.is_finalizing():
        return call()
    return _in_threads(lambda _: call(), [None], 1)[0]


def _in_threads(call: Callable[[Item], Result], items: list[Item], number: int) -> list[Result]:
    """Call a function for each item, in threads that an interrupt does not wait for."""
    futures: list[Future[Result]] = [Future() for _ in items]
    waiting = deque(zip(items, futures, strict=True))

    def work() -> None:
        with suppress(IndexError):
            while True:
                item, future = waiting.popleft()
                try:
                    future.set_result(call(item))
                except BaseException as error:  # whoever waits gets it
                    future.set_exception(error)

    threads = [Thread(target=work, daemon=True) for _ in range(min(number, len(items)))]
    for thread in threads:
        thread.start()
    try:
        return [result_of(future) for future in futures]
    except BaseException as error:
        waiting.clear()
        if not isinstance(error, KeyboardInterrupt):
            for thread in threads:
                thread.join()
        raise


def files_among(objects: Mapping[str, ObjectState]) -> dict[str, ObjectState]:
    """Leave out objects whose names cannot be files, as `a` beside `a/b`.

    Some tools write an empty object `Norder=5/` for a directory; obstore drops its slash.
    """
    files = {
        path: state
        for path, state in objects.items()
        if is_file_path(path) and (state.size or PurePosixPath(path).suffix)
    }
    directories = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    return {path: state for path, state in files.items() if path not in directories}


def without_user(text: str) -> str:
    """Return the first line of an error's message, without the user and password of a URL."""
    return re.sub(r"(://)[^/\s]*@", r"\1", (text.strip().splitlines() or [""])[0])[:200]


class _FsspecStore(ObjectStore):
    """Drivers do not tell which version a range was read from, so the state is asked for again."""

    def __init__(self, url: str, options: Mapping[str, Any], side: str) -> None:
        import fsspec

        super().__init__(url)
        self._side = side
        try:
            fsspec.get_filesystem_class(protocol_of(url))
        except (ImportError, ValueError) as error:
            raise MarginCacheError(f"{url}: has no driver ({error}). Install it.") from None
        own = {"skip_instance_cache": True, "use_listings_cache": False}
        try:
            # Some drivers connect at once.
            self._system, root = fsspec.core.url_to_fs(self.url, **{**own, **options})
        except Exception as error:  # of a driver, which can be any
            raise MarginCacheError(
                f"{url}: cannot connect ({type(error).__name__}). Check the URL, the server and "
                f"{side}_storage_options, whose values are not shown."
            ) from None
        self._root = root.rstrip("/")
        # That of Hugging Face would answer from a listing that it keeps, without versions.
        is_hub = protocol_of(url) == "hf"
        self._info_options = {"refresh": True, "expand_info": True} if is_hub else {}

    def list(self) -> dict[str, ObjectState] | None:
        def find() -> Any:
            with suppress(NotImplementedError, PermissionError):
                return self._system.find(self._root, detail=True)

        if (infos := self._request("", find)) is None:
            return None
        found = {
            name[len(self._root) + 1 :]: _state_of(info)
            for name, info in infos.items()
            if name.startswith(f"{self._root}/")
        }
        name = next(iter(found), None)
        if name is not None and self.state(name) != found[name]:
            # The driver's listing has other fields than its `info`, which is compared with later.
            found = self.states(found)
        return files_among(found)

    def state(self, path: str) -> ObjectState | None:
        name, options = f"{self._root}/{path}", self._info_options
        info = self._request(path, lambda: self._system.info(name, **options))
        return _state_of(info) if info and info.get("type", "file") == "file" else None

    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        if (state := self.state(path)) is None:
            return None
        return bytes(self.read_range(path, 0, state.size, state)), state

    def read_range(self, path: str, start: int, end: int, state: ObjectState) -> memoryview:
        name = f"{self._root}/{path}"
        read = partial(self._system.cat_file, name, start=start, end=end)
        content = (self._request(path, read) or b"") if end > start else b""
        if self.state(path) != state or len(content) != end - start:
            raise ObjectChanged(self.url_of(path))
        return memoryview(content)

    def _request(self, path: str, call: Callable[[], Any]) -> Any:
        """Return what a driver returns; None if there is no such object."""
        url = self.url_of(path)
        try:
            return call()
        except FileNotFoundError:
            return None
        except PermissionError:
            raise PermissionDenied(url, self._side) from None
        except Exception as error:  # of a driver, which can be any
            kind = RetryableError if isinstance(error, OSError | EOFError) else MarginCacheError
            reason = f"{type(error).__name__}: {without_user(str(error))}"
            raise kind(f"{url}: cannot be read ({reason}). Check the URL and the server.") from None


def _state_of(info: Mapping[str, Any]) -> ObjectState:
    etag = next((info[name] for name in _ETAG_NAMES if info.get(name) is not None), "")
    return ObjectState(int(info["size"] or 0), str(etag))
