"""An object store in memory, which tells of each request and may fail."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from margin_cache.storage.object_store import ObjectState, ObjectStore, PreconditionFailed

PLACE = "s3://sky/lab"


def _state_of(content: bytes) -> ObjectState:
    return ObjectState(len(content), hashlib.md5(content).hexdigest())


@dataclass
class Stores:
    """All objects, by their URLs.

    Attributes:
        before: called before each request that changes objects, with "put" or "delete" and the URL.
        conditions: whether objects can be written on condition.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    before: Callable[[str, str], None] = lambda action, url: None
    conditions: bool = True

    def connect(self, url: str, options: Mapping[str, Any], side: str) -> ObjectStore:
        return MemoryStore(url, self)

    def below(self, url: str) -> dict[str, bytes]:
        """Return the objects below a URL by their relative paths."""
        start = f"{url}/"
        return {
            name.removeprefix(start): content
            for name, content in self.objects.items()
            if name.startswith(start)
        }


class MemoryStore(ObjectStore):
    def __init__(self, url: str, stores: Stores) -> None:
        super().__init__(url)
        self._stores = stores

    def list(self) -> dict[str, ObjectState]:
        return {path: _state_of(content) for path, content in self._stores.below(self.url).items()}

    def state(self, path: str) -> ObjectState | None:
        found = self.read(path)
        return found and found[1]

    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        content = self._stores.objects.get(self.url_of(path))
        return None if content is None else (content, _state_of(content))

    def read_range(self, path: str, start: int, end: int, state: ObjectState) -> memoryview:
        return memoryview(self._stores.objects[self.url_of(path)])[start:end]

    def _put(self, path: str, content: bytes | Path, replaced: ObjectState | None) -> ObjectState:
        content = content.read_bytes() if isinstance(content, Path) else content
        found = self.state(path)
        self._stores.before("put", self.url_of(path))
        if self._stores.conditions:
            found = self.state(path)
        if found != replaced:
            raise PreconditionFailed(self.url_of(path))
        self._stores.objects[self.url_of(path)] = content
        return _state_of(content)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._stores.before("delete", self.url_of(path))
            self._stores.objects.pop(self.url_of(path), None)
