"""What servers send is taken only if it is what was asked for; drivers are found or named."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage.doors import Door, NotYet, ObjectChanged, ObjectState, open_door
from support.faulty_server import Behaviour, faulty_server

CONTENT = bytes(range(256)) * 4
Result = TypeVar("Result")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Behaviour]:
    (tmp_path / "object").write_bytes(CONTENT)
    with faulty_server(tmp_path) as server:
        yield server


def asked(
    url: str, work: Callable[[Door], Awaitable[Result]], options: dict[str, Any] | None = None
) -> Result:
    """Open the door to a URL, do some work with it, and close it."""

    async def whole() -> Result:
        door = await open_door(url, options or {})
        try:
            return await work(door)
        finally:
            await door.close()

    return asyncio.run(whole())


def test_a_part_comes_with_the_state_of_its_object(served: Behaviour) -> None:
    url = f"{served.url}/object"
    state = asked(url, lambda door: door.state(url))
    assert state.size == len(CONTENT)
    assert asked(url, lambda door: door.read(url, 10, 300)) == (CONTENT[10:300], state)
    assert asked(url, lambda door: door.read(url, 0, 1024)) == (CONTENT, state)
    assert asked(url, lambda door: door.listing(url)) is None


def test_the_whole_in_the_place_of_a_part_is_not_taken(served: Behaviour) -> None:
    url = f"{served.url}/object"
    served.ignores_range = True
    with pytest.raises(NotYet, match="ignores Range"):
        asked(url, lambda door: door.read(url, 0, 1023))
    assert asked(url, lambda door: door.read(url, 0, 1024))[0] == CONTENT


def test_what_is_not_there_is_told_from_what_fails(served: Behaviour) -> None:
    with pytest.raises(FileNotFoundError):
        asked(served.url, lambda door: door.state(f"{served.url}/other"))
    served.fails_each = 1
    with pytest.raises(NotYet, match="status 503"):
        asked(served.url, lambda door: door.read(f"{served.url}/object", 0, 10))


def test_states_have_times_of_whole_seconds_that_differ_with_the_mark() -> None:
    times = {ObjectState(5, f'"{number}"').time for number in range(1000)}
    assert len(times) == 1000
    assert all(time % 10**9 == 0 for time in times)
    assert min(times) >= 315_532_800 * 10**9
    assert max(times) < 1_400_000_000 * 10**9


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


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gs://bucket/sky", "the package gcsfs is needed; install it"),
        ("abfs://bucket/sky", "the package adlfs is needed; install it"),
        ("nowhere://bucket/sky", "fsspec has no driver for it"),
    ],
)
def test_a_driver_that_is_missing_is_named(url: str, words: str) -> None:
    with pytest.raises(MarginCacheError) as error:
        asked(url, lambda door: door.state(url))
    assert words in str(error.value)


def test_options_that_a_driver_does_not_take_are_not_repeated() -> None:
    url = "memory://doors"
    with pytest.raises(MarginCacheError, match="input_storage_options") as error:
        asked("http://127.0.0.1/", lambda door: door.state(url), {"client_kwargs": 5})
    assert "5" not in str(error.value)
