"""Margins of other programs, kept in tests/data; run as a script, it makes them again.

PYTHONPATH=scripts:tests .venv/bin/python -m support.peer_margins DIRECTORY
"""

import subprocess
import sys
from pathlib import Path

from support.audited_sites import THRESHOLD, make_catalog
from support.paths import ROOT
from support.peer_environments import PEERS, peer_python

DATA = ROOT / "tests/data"
WRITERS = {"hipscat_import": "hipscat", "hats_import": "hats"}
"""The format of each program, as `audited_sites` names it."""

ROWS = 900
CELL_ORDER = 7
"""Of the cells that hats-import goes by for this threshold."""


def make(name: str, directory: Path) -> None:
    """Make the catalog `sky` and its margin `margin` by a program, in its own environment."""
    make_catalog(WRITERS[name], directory, rows=ROWS)
    program = name.replace("_", "-")
    outputs = {
        "hipscat_import": ["--output", "margin"],
        "hats_import": ["--output", ".", "--name", "margin"],
    }
    script = [peer_python(program), PEERS / f"run_{name}.py", "--input", "sky"]
    words = [*script, *outputs[name], "--threshold", THRESHOLD]
    subprocess.run([str(word) for word in words], cwd=directory, check=True)


if __name__ == "__main__":
    for each in WRITERS:
        place = Path(sys.argv[1]) / each
        place.mkdir(parents=True)
        make(each, place)
