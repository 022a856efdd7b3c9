"""Lets the workflow's library, and what tests and benchmarks share, be imported after this."""

import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]


def provenance(verb: str = "Measured") -> str:
    """Return the line that documents put above a table: its command, commit, date and cores."""
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=, changed", "--exclude=*"]
    commit = subprocess.run(describe, check=True, capture_output=True, encoding="utf-8").stdout
    script = Path(sys.argv[0]).resolve()
    command = f"python {script.relative_to(ROOT)} {shlex.join(sys.argv[1:])}".strip()
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"*{verb} with `{command}`, commit {commit.strip()}, {date}, {os.cpu_count()} cores.*\n"
