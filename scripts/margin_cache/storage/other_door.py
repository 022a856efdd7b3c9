"""The way to any other store that fsspec has a driver for."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from margin_cache.storage.door import ObjectChanged, ReadOnly
from margin_cache.storage.object_state import ObjectState
from margin_cache.storage.urls import joined


class OtherDoor(ReadOnly):
    """Any other store of fsspec. A part is taken if the object is the same before and after.

    Its functions are called in threads: not all drivers have others.
    """

    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        self._system = system(skip_instance_cache=True, use_listings_cache=False, **options)

    async def listing(self, url: str) -> dict[str, ObjectState] | None:
        """Return the objects below a URL by their paths there; None if that cannot be had."""
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
        """Return the state of an object, or raise FileNotFoundError."""
        path = self._system._strip_protocol(url)
        return _other_state(await asyncio.to_thread(self._system.info, path))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        """Return the bytes from one to before another, and the state of the object they are of."""
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
