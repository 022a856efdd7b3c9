"""The interface to object stores.

An `ObjectStore` makes one request per call, without retries. Its implementations are `HttpStore`,
`S3Store` and `FsspecStore`. `connect` returns a `StoreClient`, which adds retries and threads.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from margin_cache.errors import MarginCacheError

if TYPE_CHECKING:
    from margin_cache.storage.store_client import StoreClient

_FIRST_TIME, _TIMES = 315_532_800, 1 << 30
"""Range of the times that represent ETags: 1980 to 2014, in whole seconds, which all file systems
keep."""


class FileStamp(NamedTuple):
    """Size and modification time of the local file that represents a version of an object."""

    size: int
    mtime_ns: int


class ObjectState(NamedTuple):
    """Identifies a version of an object: size and ETag, or modification time without an ETag."""

    size: int
    etag: str

    @property
    def stamp(self) -> FileStamp:
        digest = hashlib.blake2b(self.etag.encode(), digest_size=8).digest()
        seconds = _FIRST_TIME + int.from_bytes(digest, "little") % _TIMES
        return FileStamp(self.size, seconds * 10**9)


class TransientError(Exception):
    """A request failed, and may succeed later. The message says why."""


class PreconditionFailed(Exception):
    """The object to be replaced does not have the expected ETag."""


class ObjectChanged(MarginCacheError):
    """The object is not the version that the run was planned with."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: changed after the run began. Start the run again.")


class ObjectStore(ABC):
    """An object store. Reading is implemented by all, writing by S3 alone."""

    @abstractmethod
    async def list_objects(self, url: str) -> dict[str, ObjectState] | None:
        """Return the objects below a URL by their relative paths; None if listing is impossible."""

    @abstractmethod
    async def state(self, url: str) -> ObjectState:
        """Return the state of an object, or raise FileNotFoundError."""

    @abstractmethod
    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        """Return the bytes from `start` to before `end`, and the state of the object read."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""

    async def write(self, url: str, content: bytes, expected_etag: str | None) -> ObjectState:
        """Write a whole object.

        Args:
            url: the object.
            content: its content.
            expected_etag: ETag of the object to replace; "" if there must be no object yet; None to
                write without a condition.

        Raises:
            PreconditionFailed: the condition does not hold.
            OSError: ENOSYS if the store does not support conditions.
        """
        raise NotImplementedError(url)

    async def remove(self, url: str) -> None:
        """Remove an object if it exists."""
        raise NotImplementedError(url)

    async def abort_uploads(self, url: str) -> None:
        """Abort the multipart uploads below a URL, which killed processes have left."""
        raise NotImplementedError(url)


def connect(url: str, options: Mapping[str, Any], side: str = "input") -> "StoreClient":
    """Return a client of the store of a URL.

    Args:
        url: a URL in the store.
        options: fsspec's storage options.
        side: "input" or "output": selects the configuration keys that error messages name.

    Raises:
        MarginCacheError: the driver is missing, or rejects the options.
    """
    # Slow to import, and not needed for local catalogs.
    from margin_cache.storage.store_client import StoreClient

    return StoreClient(url, options, side)


def check_content_range(text: str, start: int, end: int) -> int:
    """Check the Content-Range of a response; return the size of the object.

    An object that ends before `end` passes: its size shows that it has changed.

    Raises:
        TransientError: it has another range, or does not say which.
    """
    try:
        part, _, total = text.removeprefix("bytes ").partition("/")
        first, _, last = part.partition("-")
        received, size = (int(first), int(last) + 1), int(total)
    except ValueError:
        raise TransientError("the server sent a range without a valid Content-Range") from None
    if received != (start, end) and size >= end:
        raise TransientError("the server sent another range than requested")
    return size


RANGE_IGNORED = "the server ignores range requests and sent the whole file"
