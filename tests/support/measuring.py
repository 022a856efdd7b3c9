"""Wall time, CPU time, memory and bytes read of a command and of all processes it starts."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.paths import ROOT

_NOT_PASSED_ON = {"NUMBA_DISABLE_JIT", "PYTHONDONTWRITEBYTECODE"}
"""Variables that slow down what is measured: the compiler that hipscat needs in an environment of
its own, and byte code, without which Python compiles all modules of a script at each start."""


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        wall: seconds from start to end.
        cpu: seconds of CPU, user's and system's, of all its processes.
        peak_mb: largest resident memory of any one of its processes, in MB.
        read_mb: what all its processes read from files, in MB; without what they map into memory.
    """

    wall: float
    cpu: float
    peak_mb: float
    read_mb: float


def measure(command: Sequence[str | Path], directory: Path, **environment: str) -> Usage:
    """Run a command, and end with what it wrote if it fails.

    The caller should not have much memory: what a new process takes counts from that of its parent.

    Args:
        command: the command with its arguments.
        directory: where to run it.
        environment: variables to set for it.
    """
    words = [str(word) for word in command]
    log = directory / "measured.log"
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    read, start = _bytes_read(), time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=directory, env=kept | environment, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)}\n{log.read_text(errors='replace')}")
    return Usage(
        wall,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024 / 1e6,
        (_bytes_read() - read) / 1e6,
    )


def _bytes_read() -> int:
    """Return the bytes that this process and those it has waited for have read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def source_of_numbers(command: str) -> str:
    """Return what documents say of numbers: the command, the commit, the date and the cores."""
    describe = ["git", "-C", ROOT, "describe", "--always", "--dirty=, changed", "--exclude=*"]
    try:
        commit = subprocess.run(describe, check=True, capture_output=True, encoding="utf-8").stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        commit = "unknown"
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"`{command}`, commit {commit.strip()}, {date}, {os.cpu_count()} cores"
