"""A web server with one object, for the tests of what reads from servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faulty_server import Behaviour, faulty_server


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Behaviour]:
    """Serves the CONTENT of the test's module as `object`."""
    (tmp_path / "object").write_bytes(request.module.CONTENT)
    with faulty_server(tmp_path) as server:
        yield server
