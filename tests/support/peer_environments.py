"""The environments of the programs that margins are compared with, made when they are asked for."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"


def peer_python(name: str) -> Path:
    """The Python of a peer's own environment, which is made if its pins have changed.

    Args:
        name: what the file with the pins, in benchmarks/peers, is called without its .txt.
    """
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
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            subprocess.run([python, *install, PEERS / f"{name}.txt"], check=True)
            # Written last, so that an interrupted installation is made again.
            made.write_text(pins, encoding="utf-8")
    return python
