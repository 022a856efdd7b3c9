"""The programs that margins are compared with, in environments of their own."""

import os
import subprocess
from pathlib import Path

import pytest

from support import peer_environments

PEERS = peer_environments.PEERS


def peer_python(name: str) -> Path:
    """The Python of a peer's own environment.

    Args:
        name: what the file with the pins, in benchmarks/peers, is called without its .txt.
    """
    if not (os.environ.get("CI") or os.environ.get("PEERS")):
        pytest.skip(f"{name} needs an environment of its own; it is made with PEERS=1, or in CI")
    return peer_environments.peer_python(name)


def run(*command: str | Path | float, given: str = "") -> str:
    """Run a command of a peer on `given` as its input; return what it wrote."""
    # Uncompiled, hipscat's functions fail at the quantities of astropy that they are given.
    unset = ("NUMBA_DISABLE_JIT", "PYTHONPATH")
    finished = subprocess.run(
        [str(part) for part in command],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={name: value for name, value in os.environ.items() if name not in unset},
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout
