"""The environments of the programs that margins are compared with."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workflow_runs import ROOT

PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"


def peer_python(name: str) -> Path:
    """The Python of a peer's own environment, which is made if its pins have changed.

    Args:
        name: what the file with the pins, in benchmarks/peers, is called without its .txt.
    """
    if not (os.environ.get("CI") or os.environ.get("PEERS")):
        pytest.skip(f"{name} needs an environment of its own; it is made with PEERS=1, or in CI")
    pins = (PEERS / f"{name}.txt").read_text(encoding="utf-8")
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n", encoding="utf-8")
    environment = ENVIRONMENTS / name
    python, made = environment / "bin" / "python", environment / ".made-from.txt"
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text(encoding="utf-8") != pins:
            shutil.rmtree(environment, ignore_errors=True)
            install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r")
            run(sys.executable, "-m", "venv", environment)
            run(python, *install, PEERS / f"{name}.txt")
            # Written last, so that an interrupted installation is made again.
            made.write_text(pins, encoding="utf-8")
    return python


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
