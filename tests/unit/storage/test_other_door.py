"""Any store that fsspec has a driver for is listed and read."""

from typing import Any

import fsspec
import pytest
from margin_cache.storage.door import ObjectChanged
from support.doors import CONTENT, asked


def test_any_store_of_fsspec_is_listed_and_read() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/doors/a": CONTENT, "/doors/sub/b": b"x", "/doors2/c": b""})
    url = "memory://doors"
    listing = asked(url, lambda door: door.listing(url))
    assert listing is not None
    assert {name: state.size for name, state in listing.items()} == {"a": 1024, "sub/b": 1}
    assert asked(url, lambda door: door.state(f"{url}/a")) == listing["a"]
    assert asked(url, lambda door: door.read(f"{url}/a", 5, 9)) == (CONTENT[5:9], listing["a"])


def test_an_object_that_changes_while_it_is_read_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/doors/changing", CONTENT)
    system = type(memory)
    read = system.cat_file

    def read_late(self: Any, path: str, **options: Any) -> bytes:
        self.pipe(path, CONTENT + b"!")
        return read(self, path, **options)

    monkeypatch.setattr(system, "cat_file", read_late)
    url = "memory://doors/changing"
    with pytest.raises(ObjectChanged, match="was changed after the run began"):
        asked(url, lambda door: door.read(url, 5, 9))
