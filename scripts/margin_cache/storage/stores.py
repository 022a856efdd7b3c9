"""Stores of objects behind URLs, by fsspec: what there is, and parts of objects, exactly.

Servers fail in passing, so each request is made again, after a while, before it counts as failed.
What a server sends is taken only if it is the part that was asked for, of the object in the state
that was planned with. Only remote catalogs have this module, or fsspec, imported.
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
from margin_cache.storage.door import ObjectChanged, PreconditionFailed, TransientError
from margin_cache.storage.doors import open_door
from margin_cache.storage.object_state import ObjectState
from margin_cache.storage.urls import is_below

Result = TypeVar("Result")

_ATTEMPTS, _FIRST_PAUSE, _LONGEST_PAUSE = 8, 0.1, 20.0
"""Tries of a request, and pauses between them [s], each about twice as long as the one before."""

_HEADS, _READS, _WRITES = 64, 16, 8
"""Requests of a process that are under way together: for states, for content, and with content."""

_PASSING_NAMES = {
    *("ClientConnectionError", "ClientPayloadError", "ClientResponseError"),  # of aiohttp
    *("HTTPClientError", "EndpointConnectionError", "IncompleteReadError", "ResponseParserError"),
}
"""Errors of drivers, which are not imported here, that are as those of connections."""

_PASSING_ERRNO = {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ECONNRESET, errno.ETIMEDOUT}


class Store:
    """A store, asked by any thread; an event loop in a thread of its own does the work."""

    def __init__(self, url: str, options: Mapping[str, Any], side: str = "input") -> None:
        """Find the driver for a URL.

        Args:
            url: a URL of the store.
            options: fsspec's options for it.
            side: "input" or "output": which keys of the configuration messages name.

        Raises:
            MarginCacheError: there is no driver, or it does not take the options.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)
        self._thread.start()
        self._side = side
        self._heads, self._reads = asyncio.Semaphore(_HEADS), asyncio.Semaphore(_READS)
        self._writes = asyncio.Semaphore(_WRITES)
        self.bytes_read = 0
        try:
            self._door = self.run(open_door(url, dict(options), side))
        except BaseException:
            self._stop()
            raise

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do some work in the loop, and wait for it."""
        return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Begin some work in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Close all connections, and end the thread, once."""
        if self._loop.is_closed():
            return
        with suppress(Exception):
            self.start(self._door.close()).result(timeout=5)
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._loop.is_running():
            self._loop.close()

    async def listing(self, url: str) -> dict[str, ObjectState] | None:
        """Return the objects below a URL by their paths there; None if the store cannot list.

        Objects whose names are no paths of files beside the others are left out.

        Raises:
            MarginCacheError: the store does not answer, or forbids it.
        """
        found = await self._with_retries(url, lambda: self._door.listing(url))
        if found is None:
            return None
        # Such as `a//b`, `../a` and `a/`, or `a` beside `a/b`, which stand for a directory.
        files = {path: state for path, state in found.items() if is_below(path)}
        directories = {str(above) for path in files for above in PurePosixPath(path).parents}
        return {path: state for path, state in files.items() if path not in directories}

    async def states(self, urls: list[str]) -> list[ObjectState | None]:
        """Return the states of objects, None of one that is not there.

        Raises:
            MarginCacheError: the store does not answer, or forbids it.
        """

        async def state(url: str) -> ObjectState | None:
            async with self._heads:
                try:
                    return await self._with_retries(url, lambda: self._door.state(url))
                except FileNotFoundError:
                    return None

        return await _all([state(url) for url in urls])

    async def read(self, url: str, start: int, end: int, state: tuple[int, int]) -> bytes:
        """Return a part of an object.

        Args:
            url: the object.
            start: the first byte.
            end: the byte behind the last one.
            state: size and time of the state that it has to be in.

        Raises:
            MarginCacheError: it is in another one, or cannot be read.
        """
        if end <= start:
            return b""

        async def attempt() -> bytes:
            content, found = await self._door.read(url, start, end)
            if (found.size, found.time) != state:
                raise ObjectChanged(url)
            if len(content) != end - start:
                raise TransientError(f"{len(content)} of {end - start} bytes came")
            return content

        async with self._reads:
            try:
                content = await self._with_retries(url, attempt)
            except FileNotFoundError:
                raise ObjectChanged(url) from None
        self.bytes_read += len(content)
        return content

    async def write(
        self, url: str, content: Callable[[], bytes], expected: str | None = None
    ) -> ObjectState:
        """Write an object as a whole, or not at all.

        Args:
            url: the object.
            content: returns its content, when it is its turn.
            expected: mark of the object that it replaces, "" if there must not be one yet; None for
                whatever there is. Stores that cannot compare write in any case.

        Raises:
            PreconditionFailed: something else is there. It can be what an earlier try has written.
            MarginCacheError: it cannot be written.
        """
        async with self._writes:
            data = content()

            async def attempt(expected: str | None) -> ObjectState:
                try:
                    return await self._door.write(url, data, expected)
                except OSError as error:
                    if expected is None or error.errno != errno.ENOSYS:
                        raise
                # A store that cannot compare.
                return await self._door.write(url, data, None)

            try:
                return await self._with_retries(url, lambda: attempt(expected), "written")
            except FileNotFoundError:
                raise MarginCacheError(
                    f"output_path: {url} is in a bucket that is not there; make the bucket"
                ) from None

    async def remove(self, urls: list[str]) -> None:
        """Remove objects, as far as they are there.

        Raises:
            MarginCacheError: one cannot be removed.
        """

        async def remove(url: str) -> None:
            async with self._writes:
                with suppress(FileNotFoundError):
                    await self._with_retries(url, lambda: self._door.remove(url), "removed")

        await _all([remove(url) for url in urls])

    async def abort_uploads(self, url: str) -> None:
        """Remove what killed processes have left below a URL of objects written in parts.

        Raises:
            MarginCacheError: the store does not answer.
        """
        with suppress(FileNotFoundError):
            await self._with_retries(url, lambda: self._door.abort_uploads(url))

    async def _with_retries(
        self, url: str, attempt: Callable[[], Awaitable[Result]], done: str = "read"
    ) -> Result:
        """Try something until it succeeds, or has failed too often, or for good."""
        pause = _FIRST_PAUSE
        for number in range(_ATTEMPTS):
            try:
                return await attempt()
            except (MarginCacheError, FileNotFoundError, PreconditionFailed):
                raise
            except Exception as error:
                reason = _passing_reason(error)
                if reason is None:
                    raise self._final(url, error, done) from None
            if number + 1 < _ATTEMPTS:
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise RetryableError(
            f"{url}: cannot be {done} ({reason}, {_ATTEMPTS} times); is its server at work, and is "
            "that the right URL?"
        )

    def _final(self, url: str, error: Exception, done: str) -> MarginCacheError:
        """Return what is said of an error that stays."""
        names = {each.__name__ for each in type(error).__mro__}
        if isinstance(error, PermissionError) or "NoCredentialsError" in names:
            return MarginCacheError(
                f"{url}: its server forbids this; give credentials by the environment, by the "
                f"files of the store's own tools, or as {self._side}_storage_options in a "
                "configuration file (anon: true for public buckets)"
            )
        return MarginCacheError(
            f"{url}: cannot be {done} ({type(error).__name__}: {_words(error)})"
        )


async def _all(work: list[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Do all work, or, as soon as one fails, no more of it."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from None
    return [task.result() for task in tasks]


def _passing_reason(error: Exception) -> str | None:
    """Say what went wrong, if it may go well next time."""
    if isinstance(error, TransientError):
        return str(error)
    if isinstance(error, PermissionError):
        return None
    if isinstance(error, TimeoutError | ConnectionError):
        return _words(error)
    names = {each.__name__ for each in type(error).__mro__}
    if names & {"NoCredentialsError", "PartialCredentialsError", "InvalidURL"}:
        return None
    if names & _PASSING_NAMES:
        return _words(error)
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNO:
        return _words(error)
    return None


def _words(error: BaseException) -> str:
    """Return what an error says, in one line, without user and password of a URL in it."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(://)[^/\s]*@", r"\1", words)[:200]
