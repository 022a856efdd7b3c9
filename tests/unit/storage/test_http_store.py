"""Responses of web servers are accepted only if they are what was requested."""

import pytest
from margin_cache.storage.old_object_store import TransientError
from support.faulty_server import Behaviour
from support.object_stores import CONTENT, call_store


def test_range_comes_with_the_state_of_its_object(served: Behaviour) -> None:
    url = f"{served.url}/object"
    state = call_store(url, lambda store: store.state(url))
    assert state.size == len(CONTENT)
    assert call_store(url, lambda store: store.read(url, 10, 300)) == (CONTENT[10:300], state)
    assert call_store(url, lambda store: store.read(url, 0, 1024)) == (CONTENT, state)
    assert call_store(url, lambda store: store.list_objects(url)) is None


def test_whole_file_instead_of_a_range_is_rejected(served: Behaviour) -> None:
    url = f"{served.url}/object"
    served.ignores_range = True
    with pytest.raises(TransientError, match="ignores range requests"):
        call_store(url, lambda store: store.read(url, 0, 1023))
    assert call_store(url, lambda store: store.read(url, 0, 1024))[0] == CONTENT


def test_missing_object_differs_from_a_failing_server(served: Behaviour) -> None:
    with pytest.raises(FileNotFoundError):
        call_store(served.url, lambda store: store.state(f"{served.url}/other"))
    served.fails_each = 1
    with pytest.raises(TransientError, match="status 503"):
        call_store(served.url, lambda store: store.read(f"{served.url}/object", 0, 10))


def test_web_servers_are_read_only(served: Behaviour) -> None:
    url = f"{served.url}/object"
    with pytest.raises(NotImplementedError):
        call_store(url, lambda store: store.write(url, b"", None))
    with pytest.raises(NotImplementedError):
        call_store(url, lambda store: store.remove(url))
