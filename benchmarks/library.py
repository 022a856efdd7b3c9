"""Lets the workflow's library, and what tests and benchmarks share, be imported after this."""

import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]


def provenance(verb: str = "Measured") -> str:
    """Return the line that documents put above a table: its command, commit, date and cores."""
    from support.measuring import source_of_numbers

    command = f"python {Path(sys.argv[0]).resolve().relative_to(ROOT)} {shlex.join(sys.argv[1:])}"
    return f"*{verb} with {source_of_numbers(command.strip())}.*\n"
