"""Web servers, through the aiohttp session of fsspec, which itself does not check responses."""

import email.utils
import errno
from collections.abc import Mapping
from typing import Any

from margin_cache.errors import MarginCacheError
from margin_cache.storage.old_object_store import (
    RANGE_IGNORED,
    ObjectChanged,
    ObjectState,
    ObjectStore,
    TransientError,
    check_content_range,
)

_CONNECT_SECONDS, _SILENT_SECONDS = 30, 60
"""Timeouts: to connect, and between two packets of a response."""

_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529}


class HttpStore(ObjectStore):
    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        client = {"trust_env": True, **options.pop("client_kwargs", {})}
        self._system = system(
            asynchronous=True, skip_instance_cache=True, client_kwargs=client, **options
        )

    async def list_objects(self, url: str) -> dict[str, ObjectState] | None:
        return None

    async def state(self, url: str) -> ObjectState:
        async with await self._request("HEAD", url, {}) as response:
            _check_status(url, response.status)
            try:
                size = int(response.headers["Content-Length"])
            except (KeyError, ValueError):
                raise MarginCacheError(
                    f"{url}: the server sends no Content-Length, which is needed to read ranges."
                ) from None
            return ObjectState(size, _etag(response.headers))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        async with await self._request("GET", url, headers) as response:
            if response.status == 416:
                raise ObjectChanged(url)
            _check_status(url, response.status)
            if response.status == 206:
                size = check_content_range(response.headers.get("Content-Range", ""), start, end)
            else:
                size = int(response.headers.get("Content-Length", -1))
                if (start, end) != (0, size):
                    response.close()  # the body is not read
                    raise TransientError(RANGE_IGNORED)
            return await response.read(), ObjectState(size, _etag(response.headers))

    async def close(self) -> None:
        if self._system._session is not None:
            await self._system._session.close()

    async def _request(self, method: str, url: str, headers: dict[str, str]) -> Any:
        import aiohttp

        session = await self._system.set_session()
        options = dict(self._system.kwargs)
        headers = {**options.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS
        )
        options.setdefault("timeout", timeout)
        return session.request(
            method, self._system.encode_url(url), allow_redirects=True, headers=headers, **options
        )


def _check_status(url: str, status: int) -> None:
    if status in (404, 410):
        raise FileNotFoundError(errno.ENOENT, "no such file", url)
    if status in (401, 403, 407):
        raise PermissionError(errno.EACCES, "permission denied", url)
    if status in _TRANSIENT_STATUS:
        raise TransientError(f"status {status}")
    if status not in (200, 206):
        raise MarginCacheError(f"{url}: cannot be read (status {status}). Check the URL.")


def _etag(headers: Mapping[str, str]) -> str:
    if etag := headers.get("ETag"):
        return etag
    modified = headers.get("Last-Modified", "")
    try:
        return str(int(email.utils.parsedate_to_datetime(modified).timestamp()))
    except (TypeError, ValueError):
        return modified
