"""Any store that fsspec has a driver for is listed and read."""

from typing import Any

import fsspec
import pytest
from margin_cache.storage.old_object_store import ObjectChanged
from support.object_stores import CONTENT, call_store


def test_any_store_of_fsspec_is_listed_and_read() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/stores/a": CONTENT, "/stores/sub/b": b"x", "/stores2/c": b""})
    url = "memory://stores"
    listing = call_store(url, lambda store: store.list_objects(url))
    assert listing is not None
    assert {name: state.size for name, state in listing.items()} == {"a": 1024, "sub/b": 1}
    assert call_store(url, lambda store: store.state(f"{url}/a")) == listing["a"]
    assert call_store(url, lambda store: store.read(f"{url}/a", 5, 9)) == (
        CONTENT[5:9],
        listing["a"],
    )


def test_object_that_changes_during_a_read_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/stores/changing", CONTENT)
    system = type(memory)
    read = system.cat_file

    def read_late(self: Any, path: str, **options: Any) -> bytes:
        self.pipe(path, CONTENT + b"!")
        return read(self, path, **options)

    monkeypatch.setattr(system, "cat_file", read_late)
    url = "memory://stores/changing"
    with pytest.raises(ObjectChanged, match="changed after the run began"):
        call_store(url, lambda store: store.read(url, 5, 9))
