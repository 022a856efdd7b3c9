"""Calls to an object store, from opening to closing it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from margin_cache.storage.old_object_store import ObjectStore
from margin_cache.storage.store_client import open_store

CONTENT = bytes(range(256)) * 4
Result = TypeVar("Result")


def call_store(
    url: str,
    call: Callable[[ObjectStore], Awaitable[Result]],
    options: dict[str, Any] | None = None,
    side: str = "input",
) -> Result:
    """Open the store of a URL, await a call to it, and close it."""

    async def run() -> Result:
        store = await open_store(url, options or {}, side)
        try:
            return await call(store)
        finally:
            await store.close()

    return asyncio.run(run())
