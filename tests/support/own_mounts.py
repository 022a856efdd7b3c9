"""Bind mounts that one process alone sees, in a mount namespace of its own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from support.paths import ROOT
from support.workflow_runs import TIME_LIMIT, environment

_UNSHARE = ("unshare", "--mount", "--propagation", "private")
_MOUNT = 'mount --bind "$0" "$1" && shift && exec "$@"'


def run_with_mount(
    source: Path, target: Path, command: Sequence[str | Path]
) -> subprocess.CompletedProcess[str]:
    """Run a command for which a directory is mounted at another; nobody else sees that.

    Args:
        source: the directory.
        target: another, where it is seen too.
        command: a program and its arguments.
    """
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    return subprocess.run(
        [*_UNSHARE, *as_root, "sh", "-c", _MOUNT, source, target, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=environment() | {"PYTHONPATH": str(ROOT / "scripts")},
        timeout=TIME_LIMIT,
    )


@cache
def can_mount() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "source"), Path(name, "target")
        (source / "file").mkdir(parents=True)
        target.mkdir()
        try:
            return run_with_mount(source, target, ["ls", target]).stdout == "file\n"
        except OSError:
            return False


def python(code: str, *arguments: str) -> list[str]:
    """The command that runs some lines of Python, with arguments."""
    return [sys.executable, "-c", code, *arguments]
