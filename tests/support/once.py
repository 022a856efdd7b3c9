"""Directories that are filled once, for all workers of a session."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A directory that `make` fills, once for all workers of a session."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    root = factory.getbasetemp().parent if shared else factory.getbasetemp()
    directory, failed, made = root / name, root / f"{name}.failed", root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if failed.exists():
            pytest.fail(f"{directory} could not be made, see the first test that uses it")
        if not made.exists():
            failed.touch()
            try:
                make(directory)
            except pytest.skip.Exception:  # for each worker the same reason
                failed.unlink()
                raise
            failed.rename(made)
    return directory
