"""The environments in which programs are compared, made when they are asked for."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"


def peer_python(name: str) -> Path:
    """The Python of a peer's own environment.

    Args:
        name: what the file with the pins, in benchmarks/peers, is called without its .txt.
    """
    return _python_with(name, PEERS / f"{name}.txt")


def users_python() -> Path:
    """The Python of an environment as users have it, without what only tests need.

    Snakemake imports more of what it finds: with boto3, it starts a tenth of a second later.
    """
    return _python_with("users", ROOT / "requirements.lock", "--no-deps", "--require-hashes")


def _python_with(name: str, file: Path, *options: str) -> Path:
    """The Python of an environment, which is made if the file with its pins has changed."""
    pins = file.read_text(encoding="utf-8")
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n", encoding="utf-8")
    environment = ENVIRONMENTS / name
    python, made = environment / "bin" / "python", environment / ".made-from.txt"
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text(encoding="utf-8") != pins:
            shutil.rmtree(environment, ignore_errors=True)
            install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            subprocess.run([python, *install, *options, "-r", file], check=True)
            # Written last, so that an interrupted installation is made again.
            made.write_text(pins, encoding="utf-8")
    return python
