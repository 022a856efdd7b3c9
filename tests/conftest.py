"""What holds for all tests."""

import os

import pytest

# Before NumPy is imported: workers are as many as cores, and their threads would wait for each
# other. Runs of the workflow do not get it from here, see support/workflow_runs.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# So that an assertion in there says what it compared.
pytest.register_assert_rewrite("support")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long tests where somebody waits for the result."""
    if os.environ.get("CI") == "true" or os.environ.get("LONG"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]
