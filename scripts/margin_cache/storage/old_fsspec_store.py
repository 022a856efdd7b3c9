"""Any other store that fsspec has a driver for."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from margin_cache.storage.old_object_store import ObjectChanged, ObjectState, ObjectStore
from margin_cache.storage.urls import join_url

_ETAG_NAMES = ("ETag", "etag", "e_tag", "md5Hash", "generation", "content_md5")
_TIME_NAMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""Names that drivers use, the preferred one first."""


class FsspecStore(ObjectStore):
    """Calls the driver in threads, because not all drivers are asynchronous.

    Drivers do not tell which version a range was read from, so the state is asked for before and
    after each read.
    """

    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        self._system = system(skip_instance_cache=True, use_listings_cache=False, **options)

    async def list_objects(self, url: str) -> dict[str, ObjectState] | None:
        path = self._system._strip_protocol(url)
        try:
            infos = await asyncio.to_thread(self._system.find, path, detail=True)
        except (NotImplementedError, PermissionError):
            return None
        listing = {
            name[len(path) + 1 :]: _state_of(info)
            for name, info in infos.items()
            if name.startswith(f"{path}/")
        }
        for name, state in listing.items():
            if await self.state(join_url(url, name)) == state:
                break
            # The driver's listing has other fields than its `info`, which `read` compares with.
            states = await asyncio.gather(*(self.state(join_url(url, name)) for name in listing))
            return dict(zip(listing, states, strict=True))
        return listing

    async def state(self, url: str) -> ObjectState:
        path = self._system._strip_protocol(url)
        return _state_of(await asyncio.to_thread(self._system.info, path))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        path = self._system._strip_protocol(url)
        before = await self.state(url)
        content = await asyncio.to_thread(self._system.cat_file, path, start=start, end=end)
        if await self.state(url) != before:
            raise ObjectChanged(url)
        return content, before

    async def close(self) -> None:
        """Do nothing: the driver closes its connections."""


def _state_of(info: Mapping[str, Any]) -> ObjectState:
    values = (info.get(name) for name in (*_ETAG_NAMES, *_TIME_NAMES))
    etag = next((value for value in values if value is not None), "")
    if isinstance(etag, datetime):
        etag = etag.timestamp()
    return ObjectState(int(info["size"] or 0), str(etag))
