"""Client of an object store: retries, limits on concurrent requests, checks of what was received.

Only runs with URLs import this module, asyncio and fsspec.
"""

import asyncio
import errno
import random
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, TypeVar

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.http_store import HttpStore
from margin_cache.storage.old_fsspec_store import FsspecStore
from margin_cache.storage.old_object_store import (
    FileStamp,
    ObjectChanged,
    ObjectState,
    ObjectStore,
    PreconditionFailed,
    TransientError,
)
from margin_cache.storage.s3_store import S3Store
from margin_cache.storage.urls import is_file_path, protocol_of

Result = TypeVar("Result")

_ATTEMPTS, _FIRST_PAUSE, _LONGEST_PAUSE = 8, 0.1, 20.0
"""Attempts of a request, and pauses between them [s], each about twice as long as the last."""

_HEADS, _READS, _WRITES = 64, 16, 8
"""Concurrent requests of a process: for states, reading, and writing."""

_TRANSIENT_NAMES = {
    *("ClientConnectionError", "ClientPayloadError", "ClientResponseError"),  # of aiohttp
    *("HTTPClientError", "EndpointConnectionError", "IncompleteReadError", "ResponseParserError"),
}
"""Connection errors of drivers. They are known by name because drivers are not imported here."""

_TRANSIENT_ERRNO = {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ECONNRESET, errno.ETIMEDOUT}

_DRIVERS = {
    **{"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"},
    **{"abfs": "adlfs", "abfss": "adlfs", "az": "adlfs", "adl": "adlfs"},
}
"""Packages of the drivers that are not part of fsspec."""


class StoreClient:
    """A client for any thread. The requests run in an event loop in a thread of its own.

    Args:
        url: a URL in the store.
        options: fsspec's storage options.
        side: "input" or "output": selects the configuration keys that error messages name.

    Raises:
        MarginCacheError: the driver is missing, or rejects the options.
    """

    def __init__(self, url: str, options: Mapping[str, Any], side: str = "input") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)
        self._thread.start()
        self._side = side
        self._heads, self._reads = asyncio.Semaphore(_HEADS), asyncio.Semaphore(_READS)
        self._writes = asyncio.Semaphore(_WRITES)
        try:
            self._object_store = self.run(open_store(url, dict(options), side))
        except BaseException:
            self._stop()
            raise

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the event loop, and wait for its result."""
        return self.submit(work).result()

    def submit(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Close all connections and end the thread. A second call does nothing."""
        if self._loop.is_closed():
            return
        with suppress(Exception):
            self.submit(self._object_store.close()).result(timeout=5)
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._loop.is_running():
            self._loop.close()

    async def list_objects(self, url: str) -> dict[str, ObjectState] | None:
        """Return the objects below a URL by their relative paths; None if listing is impossible.

        Names that cannot be files in a directory are left out: `a//b`, `../a`, `a/`, and `a` beside
        `a/b`.
        """
        listing = await self._with_retries(url, lambda: self._object_store.list_objects(url))
        if listing is None:
            return None
        files = {path: state for path, state in listing.items() if is_file_path(path)}
        directories = {str(parent) for path in files for parent in PurePosixPath(path).parents}
        return {path: state for path, state in files.items() if path not in directories}

    async def states(self, urls: list[str]) -> list[ObjectState | None]:
        """Return the states of objects in the order of the URLs; None for a missing object."""

        async def state(url: str) -> ObjectState | None:
            async with self._heads:
                try:
                    return await self._with_retries(url, lambda: self._object_store.state(url))
                except FileNotFoundError:
                    return None

        return await _gather([state(url) for url in urls])

    async def read(self, url: str, start: int, end: int, stamp: FileStamp) -> bytes:
        """Return the bytes from `start` to before `end` of an object.

        Raises:
            ObjectChanged: its state does not have this stamp, or it does not exist.
        """
        if end <= start:
            return b""

        async def attempt() -> bytes:
            content, state = await self._object_store.read(url, start, end)
            if state.stamp != stamp:
                raise ObjectChanged(url)
            if len(content) != end - start:
                raise TransientError(f"received {len(content)} of {end - start} bytes")
            return content

        async with self._reads:
            try:
                return await self._with_retries(url, attempt)
            except FileNotFoundError:
                raise ObjectChanged(url) from None

    async def write(
        self, url: str, read_content: Callable[[], bytes], expected_etag: str | None = None
    ) -> ObjectState:
        """Write a whole object.

        Args:
            url: the object.
            read_content: returns the content; called when the write begins, to save memory.
            expected_etag: as for `ObjectStore.write`; ignored if the store has no conditions.

        Raises:
            PreconditionFailed: the condition does not hold, perhaps because an earlier attempt has
                written the object.
        """
        async with self._writes:
            content = read_content()

            async def attempt() -> ObjectState:
                try:
                    return await self._object_store.write(url, content, expected_etag)
                except OSError as error:
                    if expected_etag is None or error.errno != errno.ENOSYS:
                        raise
                return await self._object_store.write(url, content, None)

            try:
                return await self._with_retries(url, attempt, "written")
            except FileNotFoundError:
                raise MarginCacheError(
                    f"output_path: the bucket of {url} does not exist. Create it."
                ) from None

    async def remove(self, urls: list[str]) -> None:
        """Remove the objects that exist."""

        async def remove(url: str) -> None:
            async with self._writes:
                with suppress(FileNotFoundError):
                    await self._with_retries(url, lambda: self._object_store.remove(url), "removed")

        await _gather([remove(url) for url in urls])

    async def abort_uploads(self, url: str) -> None:
        with suppress(FileNotFoundError):
            await self._with_retries(url, lambda: self._object_store.abort_uploads(url))

    async def _with_retries(
        self, url: str, attempt: Callable[[], Awaitable[Result]], action: str = "read"
    ) -> Result:
        pause = _FIRST_PAUSE
        for number in range(_ATTEMPTS):
            try:
                return await attempt()
            except (MarginCacheError, FileNotFoundError, PreconditionFailed):
                raise
            except Exception as error:
                reason = _transient_reason(error)
                if reason is None:
                    raise self._permanent_error(url, error, action) from None
            if number + 1 < _ATTEMPTS:
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise RetryableError(
            f"{url}: failed {_ATTEMPTS} times ({reason}). Check the URL and the server."
        )

    def _permanent_error(self, url: str, error: Exception, action: str) -> MarginCacheError:
        if isinstance(error, PermissionError) or "NoCredentialsError" in _class_names(error):
            return MarginCacheError(
                f"{url}: permission denied. Give credentials in the environment, in the files of "
                f"the store's own tools, or as {self._side}_storage_options in a configuration "
                "file (anon: true for public buckets)."
            )
        return MarginCacheError(
            f"{url}: cannot be {action} ({type(error).__name__}: {_error_text(error)})."
        )


async def open_store(url: str, options: dict[str, Any], side: str = "input") -> ObjectStore:
    """Return the store of a URL; see `StoreClient`."""
    import fsspec

    protocol = protocol_of(url)
    try:
        system = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError):
        package = _DRIVERS.get(protocol)
        raise MarginCacheError(
            f"{'input_catalog_path' if side == 'input' else 'output_path'}: {url} "
            + (
                f"needs the package {package}. Install it."
                if package
                else f"has the protocol {protocol}, which fsspec does not know. Use another URL."
            )
        ) from None
    stores: dict[str, type[HttpStore] | type[S3Store]] = {
        **{"http": HttpStore, "https": HttpStore},
        **{"s3": S3Store, "s3a": S3Store},
    }
    try:
        return stores.get(protocol, FsspecStore)(system, options)
    except (TypeError, ValueError) as error:
        raise MarginCacheError(
            f"{side}_storage_options: rejected by the driver {system.__name__} "
            f"({type(error).__name__}; the values are not shown, because they may be secret). See "
            "the driver's documentation."
        ) from None


async def _gather(work: list[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines together; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from None
    return [task.result() for task in tasks]


def _transient_reason(error: Exception) -> str | None:
    """Describe a transient error; None if it is permanent."""
    if isinstance(error, TransientError):
        return str(error)
    if isinstance(error, PermissionError):
        return None
    if isinstance(error, TimeoutError | ConnectionError):
        return _error_text(error)
    names = _class_names(error)
    if names & {"NoCredentialsError", "PartialCredentialsError", "InvalidURL"}:
        return None
    is_transient = isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO
    return _error_text(error) if is_transient or names & _TRANSIENT_NAMES else None


def _class_names(error: Exception) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}


def _error_text(error: BaseException) -> str:
    """Return the first line of an error's message, without the user and password of a URL."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(://)[^/\s]*@", r"\1", text)[:200]
