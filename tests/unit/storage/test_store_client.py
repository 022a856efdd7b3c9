"""Transient errors are retried, and an object is never mixed with a later version."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage import store_client
from margin_cache.storage.old_object_store import FileStamp, ObjectChanged, ObjectState
from margin_cache.storage.store_client import StoreClient
from support.faulty_server import Behaviour
from support.object_servers import free_port
from support.object_stores import call_store

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_client, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def store(served: Behaviour) -> Iterator[StoreClient]:
    store = StoreClient(served.url, {})
    yield store
    store.close()


def test_states_of_many_objects_come_in_their_order(served: Behaviour, store: StoreClient) -> None:
    urls = [f"{served.url}/{name}" for name in ("object", "none", "object")]
    states = store.run(store.states(urls))
    assert [state and state.size for state in states] == [len(CONTENT), None, len(CONTENT)]
    assert len(served.requests) == 3


def test_server_that_fails_half_of_its_requests_is_read(
    served: Behaviour, store: StoreClient
) -> None:
    url = f"{served.url}/object"
    (state,) = store.run(store.states([url]))
    assert state is not None
    served.fails_each = 2
    reads = [
        store.submit(store.read(url, start, start + 256, state.stamp))
        for start in range(0, len(CONTENT), 256)
    ]
    assert b"".join(read.result() for read in reads) == CONTENT
    assert len(served.requests) > 1.5 * len(reads)


def test_server_that_always_fails_ends_in_an_error(served: Behaviour, store: StoreClient) -> None:
    served.fails_each = 1
    with pytest.raises(
        RetryableError,
        match=r"/object: failed 8 times \(.*\)\. Check the URL and the server\.$",
    ):
        store.run(store.read(f"{served.url}/object", 0, 10, FileStamp(len(CONTENT), 0)))
    # aiohttp itself asks again after some resets.
    assert 8 <= len(served.requests) <= 16


def test_changed_object_is_rejected(served: Behaviour, store: StoreClient, tmp_path: Path) -> None:
    url = f"{served.url}/object"
    (state,) = store.run(store.states([url]))
    assert state is not None
    (tmp_path / "object").write_bytes(CONTENT[::-1])
    with pytest.raises(ObjectChanged):
        store.run(store.read(url, 0, 10, state.stamp))
    (tmp_path / "object").unlink()
    with pytest.raises(ObjectChanged):
        store.run(store.read(url, 0, 10, state.stamp))


def test_unreachable_server_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}/sky"
    store = StoreClient(url, {})
    with pytest.raises(RetryableError, match=url):
        store.run(store.states([url]))
    store.close()
    store.close()


def test_empty_range_needs_no_request(served: Behaviour, store: StoreClient) -> None:
    assert store.run(store.read(f"{served.url}/object", 5, 5, FileStamp(1, 1))) == b""
    assert served.requests == []


def test_permission_error_says_what_to_do(
    store: StoreClient, served: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forbidden(url: str) -> None:
        raise PermissionError(url)

    monkeypatch.setattr(store._object_store, "state", forbidden)
    with pytest.raises(MarginCacheError, match=r"permission denied\. Give credentials"):
        store.run(store.states([served.url]))


def test_names_that_cannot_be_files_are_left_out(
    store: StoreClient, served: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a", "a/b", "c", "c/d/e", "ab", "f", "g/", "../h", "i//j")

    async def list_objects(url: str) -> dict[str, ObjectState]:
        return {name: ObjectState(1, "etag") for name in names}

    monkeypatch.setattr(store._object_store, "list_objects", list_objects)
    listing = store.run(store.list_objects(served.url))
    assert listing is not None and set(listing) == {"a/b", "ab", "c/d/e", "f"}


@pytest.mark.parametrize("error", [ConnectionError, ValueError])
def test_user_and_password_of_a_url_are_removed_from_errors(
    error: type[Exception],
    store: StoreClient,
    served: Behaviour,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Drivers name endpoints in their errors."""

    async def failing(url: str) -> None:
        raise error("Cannot connect to https://who:s3cret@store.example:9000/sky")

    monkeypatch.setattr(store._object_store, "state", failing)
    with pytest.raises(MarginCacheError, match=r"https://store\.example:9000/sky") as caught:
        store.run(store.states([served.url]))
    assert "s3cret" not in str(caught.value) and "who" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gs://bucket/sky", "needs the package gcsfs. Install it."),
        ("abfs://bucket/sky", "needs the package adlfs. Install it."),
        ("nowhere://bucket/sky", "has the protocol nowhere, which fsspec does not know"),
    ],
)
def test_missing_driver_is_named(url: str, words: str) -> None:
    with pytest.raises(MarginCacheError) as error:
        call_store(url, lambda store: store.state(url))
    assert words in str(error.value)


def test_rejected_options_are_not_in_the_error() -> None:
    url = "memory://stores"
    with pytest.raises(MarginCacheError, match="input_storage_options") as error:
        call_store("http://127.0.0.1/", lambda store: store.state(url), {"client_kwargs": 5})
    assert "5" not in str(error.value)


def test_errors_of_the_output_name_its_keys() -> None:
    with pytest.raises(MarginCacheError, match=r"^output_path: gs://sky needs the package gcsfs"):
        call_store("gs://sky", lambda store: store.state("gs://sky"), side="output")
    with pytest.raises(MarginCacheError, match=r"^output_storage_options: rejected by the driver"):
        url = "http://127.0.0.1/"
        call_store(url, lambda store: store.state(url), {"client_kwargs": 5}, side="output")
