"""What holds for all tests."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

# Before NumPy is imported: workers are as many as cores, and their threads would wait for each
# other. Runs of the workflow do not get it from here, see support/workflow_runs.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A script's background ignores SIGINT, which Python takes over: a test that sends it would wait.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# So that an assertion in there says what it compared.
pytest.register_assert_rewrite("support")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long tests where somebody waits for the result; begin with what waits itself."""
    # A worker that waits for SLURM leaves its core to the others, as long as they have tests.
    # The longest tests of others come next, so that nobody waits for them at the end.
    first = ("tests/slurm/", "tests/interop/")
    items.sort(key=lambda item: [not item.nodeid.startswith(directory) for directory in first])
    if os.environ.get("CI") == "true" or os.environ.get("LONG"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An S3 server, one for all tests of a worker, which write at places of their own."""
    # Not before its assertions are to be rewritten.
    from support.object_servers import s3_server

    with s3_server(tmp_path_factory.mktemp("s3") / "own") as server:
        yield server


@pytest.fixture(scope="session")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of Google Cloud Storage's protocol, as `s3`."""
    from support.cloud_servers import google_server

    with google_server(tmp_path_factory.mktemp("gs") / "own") as server:
        yield server


@pytest.fixture(scope="session")
def az(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of Azure's protocol, as `s3`."""
    from support.cloud_servers import azure_server

    with azure_server(tmp_path_factory.mktemp("az") / "own") as server:
        yield server


@pytest.fixture(params=["s3", "gs", "az"])
def server(request: pytest.FixtureRequest) -> Any:
    """A server of each kind of store."""
    return request.getfixturevalue(request.param)
