"""Work with the way to a store, from its opening to its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from margin_cache.storage.door import Door
from margin_cache.storage.doors import open_door

CONTENT = bytes(range(256)) * 4
Result = TypeVar("Result")


def asked(
    url: str,
    work: Callable[[Door], Awaitable[Result]],
    options: dict[str, Any] | None = None,
    side: str = "input",
) -> Result:
    """Open the door to a URL, do some work with it, and close it."""

    async def whole() -> Result:
        door = await open_door(url, options or {}, side)
        try:
            return await work(door)
        finally:
            await door.close()

    return asyncio.run(whole())
