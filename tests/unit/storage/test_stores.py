"""Requests are made again as long as that may help, and an object is never mixed with another."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage import stores
from margin_cache.storage.door import ObjectChanged
from margin_cache.storage.object_state import ObjectState
from margin_cache.storage.stores import Store
from support.faulty_server import Behaviour
from support.object_servers import free_port

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def store(served: Behaviour) -> Iterator[Store]:
    store = Store(served.url, {})
    yield store
    store.close()


def test_states_of_many_objects_come_in_their_order(served: Behaviour, store: Store) -> None:
    urls = [f"{served.url}/{name}" for name in ("object", "none", "object")]
    states = store.run(store.states(urls))
    assert [state and state.size for state in states] == [len(CONTENT), None, len(CONTENT)]
    assert len(served.requests) == 3


def test_a_server_that_fails_half_of_its_requests_is_read(served: Behaviour, store: Store) -> None:
    url = f"{served.url}/object"
    (state,) = store.run(store.states([url]))
    assert state is not None
    served.fails_each = 2
    reads = [
        store.start(store.read(url, start, start + 256, (state.size, state.time)))
        for start in range(0, len(CONTENT), 256)
    ]
    assert b"".join(read.result() for read in reads) == CONTENT
    assert len(served.requests) > 1.5 * len(reads)
    assert store.bytes_read == len(CONTENT)


def test_a_server_that_always_fails_is_given_up(served: Behaviour, store: Store) -> None:
    served.fails_each = 1
    with pytest.raises(RetryableError, match=r"/object: cannot be read .*, 8 times.*at work"):
        store.run(store.read(f"{served.url}/object", 0, 10, (len(CONTENT), 0)))
    # aiohttp itself asks again after some resets.
    assert 8 <= len(served.requests) <= 16


def test_an_object_in_another_state_is_not_taken(
    served: Behaviour, store: Store, tmp_path: Path
) -> None:
    url = f"{served.url}/object"
    (state,) = store.run(store.states([url]))
    assert state is not None
    (tmp_path / "object").write_bytes(CONTENT[::-1])
    with pytest.raises(ObjectChanged):
        store.run(store.read(url, 0, 10, (state.size, state.time)))
    (tmp_path / "object").unlink()
    with pytest.raises(ObjectChanged):
        store.run(store.read(url, 0, 10, (state.size, state.time)))


def test_a_server_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}/sky"
    store = Store(url, {})
    with pytest.raises(RetryableError, match=url):
        store.run(store.states([url]))
    store.close()
    store.close()


def test_nothing_is_asked_for_no_bytes(served: Behaviour, store: Store) -> None:
    assert store.run(store.read(f"{served.url}/object", 5, 5, (1, 1))) == b""
    assert served.requests == []


def test_what_is_forbidden_is_said_with_what_to_do(
    store: Store, served: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forbidden(url: str) -> None:
        raise PermissionError(url)

    monkeypatch.setattr(store._door, "state", forbidden)
    with pytest.raises(MarginCacheError, match="forbids this; give credentials"):
        store.run(store.states([served.url]))


def test_objects_that_stand_for_directories_are_left_out(
    store: Store, served: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a", "a/b", "c", "c/d/e", "ab", "f", "g/", "../h", "i//j")

    async def listing(url: str) -> dict[str, ObjectState]:
        return {name: ObjectState(1, "mark") for name in names}

    monkeypatch.setattr(store._door, "listing", listing)
    found = store.run(store.listing(served.url))
    assert found is not None and set(found) == {"a/b", "ab", "c/d/e", "f"}


@pytest.mark.parametrize("error", [ConnectionError, ValueError])
def test_user_and_password_of_a_url_are_not_said(
    error: type[Exception],
    store: Store,
    served: Behaviour,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of an endpoint, which drivers name in their errors."""

    async def failing(url: str) -> None:
        raise error("Cannot connect to https://who:s3cret@store.example:9000/sky")

    monkeypatch.setattr(store._door, "state", failing)
    with pytest.raises(MarginCacheError, match=r"https://store\.example:9000/sky") as caught:
        store.run(store.states([served.url]))
    assert "s3cret" not in str(caught.value) and "who" not in str(caught.value)
