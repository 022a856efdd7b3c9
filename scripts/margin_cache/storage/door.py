"""What is asked of a store of objects: one try of each request, with the state it was answered in.

What a server sends is taken only if it is the part that was asked for.
"""

from typing import Protocol

from margin_cache.errors import MarginCacheError
from margin_cache.storage.object_state import ObjectState


class TransientError(Exception):
    """A passing fault of a server, in words."""


class PreconditionFailed(Exception):
    """An object that is not in the state that it was to be replaced in."""


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

    async def write(self, url: str, content: bytes, expected: str | None) -> ObjectState:
        """Write an object as a whole, or not at all.

        Args:
            url: the object.
            content: its content.
            expected: mark of the object that it replaces, "" if there must not be one yet; None for
                whatever there is.

        Returns:
            Its state.

        Raises:
            PreconditionFailed: something else is there.
            OSError: of the driver; ENOSYS if the store cannot write what is expected alone.
        """
        ...

    async def remove(self, url: str) -> None:
        """Remove an object, if it is there."""
        ...

    async def abort_uploads(self, url: str) -> None:
        """Remove what killed processes have left below a URL of objects written in parts."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class ReadOnly:
    """What nothing is written to: margins go to S3 and what speaks its language."""

    async def write(self, url: str, content: bytes, expected: str | None) -> ObjectState:
        """Say that nothing is written there."""
        raise NotImplementedError(url)

    async def remove(self, url: str) -> None:
        """Say that nothing is written there."""
        raise NotImplementedError(url)

    async def abort_uploads(self, url: str) -> None:
        """Say that nothing is written there."""
        raise NotImplementedError(url)


def content_range(text: str) -> tuple[int, int, int]:
    """Return the first and last byte of a part, and the size of the whole."""
    try:
        part, _, size = text.removeprefix("bytes ").partition("/")
        first, _, last = part.partition("-")
        return int(first), int(last), int(size)
    except ValueError:
        raise TransientError("a part came without word which one") from None
