"""The way to web servers, by the session that fsspec makes."""

import email.utils
import errno
from collections.abc import Mapping
from typing import Any

from margin_cache.errors import MarginCacheError
from margin_cache.storage.door import ObjectChanged, ReadOnly, TransientError, content_range
from margin_cache.storage.object_state import ObjectState

_CONNECT_SECONDS, _SILENT_SECONDS = 30, 60
"""How long a server may take to answer, and to send nothing of what it began to send."""

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529}


class HttpDoor(ReadOnly):
    """HTTP, by the session that fsspec makes: fsspec itself does not look at what comes back."""

    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        client = {"trust_env": True, **options.pop("client_kwargs", {})}
        self._system = system(
            asynchronous=True, skip_instance_cache=True, client_kwargs=client, **options
        )

    async def _request(self, method: str, url: str, headers: dict[str, str]) -> Any:
        import aiohttp

        session = await self._system.set_session()
        more = dict(self._system.kwargs)
        headers = {**more.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        more.setdefault(
            "timeout",
            aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS
            ),
        )
        return session.request(
            method, self._system.encode_url(url), allow_redirects=True, headers=headers, **more
        )

    async def listing(self, url: str) -> dict[str, ObjectState] | None:
        """Return the objects below a URL by their paths there; None if that cannot be had."""
        return None

    async def state(self, url: str) -> ObjectState:
        """Return the state of an object, or raise FileNotFoundError."""
        async with await self._request("HEAD", url, {}) as response:
            _check_status(url, response.status)
            try:
                size = int(response.headers["Content-Length"])
            except (KeyError, ValueError):
                raise MarginCacheError(
                    f"{url}: its server does not say how long it is, which reading in parts needs"
                ) from None
            return ObjectState(size, _http_mark(response.headers))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        """Return the bytes from one to before another, and the state of the object they are of."""
        async with await self._request(
            "GET", url, {"Range": f"bytes={start}-{end - 1}"}
        ) as response:
            if response.status == 416:
                raise ObjectChanged(url)
            _check_status(url, response.status)
            if response.status == 206:
                first, last, size = content_range(response.headers.get("Content-Range", ""))
                state = ObjectState(size, _http_mark(response.headers))
                if (first, last) != (start, end - 1) and size >= end:
                    raise TransientError("another part than the one asked for came")
                return await response.read(), state
            size = int(response.headers.get("Content-Length", -1))
            if start == 0 and size == end:
                return await response.read(), ObjectState(size, _http_mark(response.headers))
            # What comes is left unread: the connection is closed.
            response.close()
            raise TransientError(
                "the whole came where a part was asked for: its server ignores Range"
            )

    async def close(self) -> None:
        """Close all connections."""
        if self._system._session is not None:
            await self._system._session.close()


def _check_status(url: str, status: int) -> None:
    if status in (404, 410):
        raise FileNotFoundError(errno.ENOENT, "there is no such file", url)
    if status in (401, 403, 407):
        raise PermissionError(errno.EACCES, "forbidden", url)
    if status in _PASSING_STATUS:
        raise TransientError(f"status {status}")
    if status not in (200, 206):
        raise MarginCacheError(f"{url}: cannot be read (status {status})")


def _http_mark(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or _http_time(headers.get("Last-Modified", ""))


def _http_time(text: str) -> str:
    try:
        return str(int(email.utils.parsedate_to_datetime(text).timestamp()))
    except (TypeError, ValueError):
        return text
