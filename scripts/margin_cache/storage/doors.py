"""Ways to stores of objects, by fsspec: one try of each request, with the state it was answered in.

What a server sends is taken only if it is the part that was asked for.
"""

import asyncio
import email.utils
import errno
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import joined, protocol_of

_CONNECT_SECONDS, _SILENT_SECONDS = 30, 60
"""How long a server may take to answer, and to send nothing of what it began to send."""

_FIRST_TIME, _TIMES = 315_532_800, 1 << 30
"""Times that stand for states: whole seconds, which all file systems keep, from 1980 to 2014."""

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529}

_DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "adl": "adlfs",
}
"""Packages of drivers that fsspec does not have in itself."""


class ObjectState(NamedTuple):
    """What tells an object from an older one of its name.

    Attributes:
        size: its size in bytes.
        mark: its ETag, or the time of its last change where the store has none.
    """

    size: int
    mark: str

    @property
    def time(self) -> int:
        """A time in ns that stands for the mark, in whole seconds."""
        digest = hashlib.blake2b(self.mark.encode(), digest_size=8).digest()
        return (_FIRST_TIME + int.from_bytes(digest, "little") % _TIMES) * 10**9


class NotYet(Exception):
    """A passing fault of a server, in words."""


class ObjectChanged(MarginCacheError):
    """An object that is not in the state any more that was planned with."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: was changed after the run began; start the run again")


class Door(Protocol):
    """A way to a store; one try of each request."""

    async def listing(self, url: str) -> dict[str, ObjectState] | None:
        """Return the objects below a URL by their paths there; None if that cannot be had."""
        ...

    async def state(self, url: str) -> ObjectState:
        """Return the state of an object, or raise FileNotFoundError."""
        ...

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        """Return the bytes from one to before another, and the state of the object they are of."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


async def open_door(url: str, options: dict[str, Any]) -> Door:
    """Return the way to the store of a URL, by the driver that fsspec has for it.

    Args:
        url: the URL.
        options: fsspec's options.

    Raises:
        MarginCacheError: there is no driver, or it does not take the options.
    """
    import fsspec

    protocol = protocol_of(url)
    try:
        system = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError):
        package = _DRIVERS.get(protocol)
        problem = f"the package {package} is needed" if package else "fsspec has no driver for it"
        todo = "install it" if package else "give another URL"
        raise MarginCacheError(
            f"input_catalog_path: {url} is read by {protocol}, for which {problem}; {todo}"
        ) from None
    doors: dict[str, type[_HttpDoor] | type[_S3Door]] = {
        "http": _HttpDoor,
        "https": _HttpDoor,
        "s3": _S3Door,
        "s3a": _S3Door,
    }
    make = doors.get(protocol, _OtherDoor)
    try:
        return make(system, options)
    except (TypeError, ValueError) as error:
        raise MarginCacheError(
            f"input_storage_options: are not taken by the driver for {protocol} "
            f"({type(error).__name__}); see the documentation of {system.__name__}"
        ) from None


class _HttpDoor:
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
        return None

    async def state(self, url: str) -> ObjectState:
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
        async with await self._request(
            "GET", url, {"Range": f"bytes={start}-{end - 1}"}
        ) as response:
            if response.status == 416:
                raise ObjectChanged(url)
            _check_status(url, response.status)
            if response.status == 206:
                first, last, size = _content_range(response.headers.get("Content-Range", ""))
                state = ObjectState(size, _http_mark(response.headers))
                if (first, last) != (start, end - 1) and size >= end:
                    raise NotYet("another part than the one asked for came")
                return await response.read(), state
            size = int(response.headers.get("Content-Length", -1))
            if start == 0 and size == end:
                return await response.read(), ObjectState(size, _http_mark(response.headers))
            # What comes is left unread: the connection is closed.
            response.close()
            raise NotYet("the whole came where a part was asked for: its server ignores Range")

    async def close(self) -> None:
        if self._system._session is not None:
            await self._system._session.close()


def _check_status(url: str, status: int) -> None:
    if status in (404, 410):
        raise FileNotFoundError(errno.ENOENT, "there is no such file", url)
    if status in (401, 403, 407):
        raise PermissionError(errno.EACCES, "forbidden", url)
    if status in _PASSING_STATUS:
        raise NotYet(f"status {status}")
    if status not in (200, 206):
        raise MarginCacheError(f"{url}: cannot be read (status {status})")


def _content_range(text: str) -> tuple[int, int, int]:
    """Return the first and last byte of a part, and the size of the whole."""
    try:
        part, _, size = text.removeprefix("bytes ").partition("/")
        first, _, last = part.partition("-")
        return int(first), int(last), int(size)
    except ValueError:
        raise NotYet("a part came without word which one") from None


def _http_mark(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or _http_time(headers.get("Last-Modified", ""))


def _http_time(text: str) -> str:
    try:
        return str(int(email.utils.parsedate_to_datetime(text).timestamp()))
    except (TypeError, ValueError):
        return text


class _S3Door:
    """S3 and its like, by s3fs: one listing, and parts with the state that they are of."""

    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        self._system = system(
            asynchronous=True, skip_instance_cache=True, use_listings_cache=False, **options
        )
        self._system.retries = 1

    async def listing(self, url: str) -> dict[str, ObjectState] | None:
        path = self._system._strip_protocol(url)
        try:
            found = await self._system._find(path, detail=True)
        except PermissionError:
            return None  # many public buckets let nobody list
        return {
            name[len(path) + 1 :]: ObjectState(int(each["size"]), str(each["ETag"]))
            for name, each in found.items()
            if name.startswith(f"{path}/")
        }

    async def state(self, url: str) -> ObjectState:
        bucket, key, _ = self._system.split_path(url)
        found = await self._system._call_s3("head_object", Bucket=bucket, Key=key)
        return ObjectState(int(found["ContentLength"]), str(found["ETag"]))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        bucket, key, _ = self._system.split_path(url)
        try:
            found = await self._system._call_s3(
                "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}"
            )
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond its end
                raise ObjectChanged(url) from None
            raise
        size = int(found["ContentLength"])
        if "ContentRange" in found:
            first, last, size = _content_range(found["ContentRange"])
            if (first, last) != (start, end - 1) and size >= end:
                raise NotYet("another part than the one asked for came")
        elif (start, end) != (0, size):
            found["Body"].close()
            raise NotYet("the whole came where a part was asked for: its server ignores Range")
        async with found["Body"] as body:
            return await body.read(), ObjectState(size, str(found["ETag"]))

    async def close(self) -> None:
        if self._system._s3 is not None:
            await self._system._s3.close()


class _OtherDoor:
    """Any other store of fsspec. A part is taken if the object is the same before and after.

    Its functions are called in threads: not all drivers have others.
    """

    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        self._system = system(skip_instance_cache=True, use_listings_cache=False, **options)

    async def listing(self, url: str) -> dict[str, ObjectState] | None:
        path = self._system._strip_protocol(url)
        try:
            found = await asyncio.to_thread(self._system.find, path, detail=True)
        except (NotImplementedError, PermissionError):
            return None
        listed = {
            name[len(path) + 1 :]: _other_state(each)
            for name, each in found.items()
            if name.startswith(f"{path}/")
        }
        for name, state in listed.items():
            if await self.state(joined(url, name)) == state:
                break
            # The driver says other things of an object alone, as reading will find them.
            states = await asyncio.gather(*(self.state(joined(url, each)) for each in listed))
            return dict(zip(listed, states, strict=True))
        return listed

    async def state(self, url: str) -> ObjectState:
        path = self._system._strip_protocol(url)
        return _other_state(await asyncio.to_thread(self._system.info, path))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        path = self._system._strip_protocol(url)
        before = await self.state(url)
        content = await asyncio.to_thread(self._system.cat_file, path, start=start, end=end)
        if await self.state(url) != before:
            raise ObjectChanged(url)
        return content, before

    async def close(self) -> None:
        """Leave connections to the driver."""


def _other_state(info: Mapping[str, Any]) -> ObjectState:
    """Return the state of an object by what a driver says of it, under one name or another."""
    names = (
        ("ETag", "etag", "e_tag", "md5Hash", "generation", "content_md5"),
        ("LastModified", "last_modified", "mtime", "modified", "updated", "created"),
    )
    known = [info[name] for group in names for name in group if info.get(name) is not None]
    mark = known[0] if known else ""
    if isinstance(mark, datetime):
        mark = mark.timestamp()
    return ObjectState(int(info["size"] or 0), str(mark))
