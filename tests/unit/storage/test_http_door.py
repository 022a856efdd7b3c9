"""What web servers send is taken only if it is what was asked for."""

import pytest
from margin_cache.storage.door import TransientError
from support.doors import CONTENT, asked
from support.faulty_server import Behaviour


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
    with pytest.raises(TransientError, match="ignores Range"):
        asked(url, lambda door: door.read(url, 0, 1023))
    assert asked(url, lambda door: door.read(url, 0, 1024))[0] == CONTENT


def test_what_is_not_there_is_told_from_what_fails(served: Behaviour) -> None:
    with pytest.raises(FileNotFoundError):
        asked(served.url, lambda door: door.state(f"{served.url}/other"))
    served.fails_each = 1
    with pytest.raises(TransientError, match="status 503"):
        asked(served.url, lambda door: door.read(f"{served.url}/object", 0, 10))


def test_nothing_is_written_to_web_servers(served: Behaviour) -> None:
    url = f"{served.url}/object"
    with pytest.raises(NotImplementedError):
        asked(url, lambda door: door.write(url, b"", None))
    with pytest.raises(NotImplementedError):
        asked(url, lambda door: door.remove(url))
