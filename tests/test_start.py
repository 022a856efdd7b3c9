"""Scripts begin soon, with only what they need, and end with what they have to say."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

SLOW = {"pandas", "jsonschema", "yaml", "snakemake", "requests"}
NOT_FOR_FINISHING = {
    "hpgeom",
    "pyarrow.compute",
    "margin_cache.planning",
    "margin_cache.reading",
    "margin_cache.reducing",
}

LIST_MODULES = """
import runpy, sys
sys.path.insert(0, str(sys.argv[1]))
runpy.run_path(sys.argv[1] + "/" + sys.argv[2], run_name="script")
print(*sys.modules)
"""

RUN = """
import atexit, os, sys
sys.path.insert(0, sys.argv[1])
from margin_cache.command_line import run
from margin_cache.errors import MarginCacheError
def main():
    {}
run(main)
"""


@pytest.mark.parametrize(
    ("name", "unneeded"),
    [
        ("map_partitions.py", SLOW),
        ("reduce_margins.py", SLOW | {"margin_cache.mapping", "margin_cache.planning"}),
        ("finish_margin.py", SLOW | NOT_FOR_FINISHING),
    ],
)
def test_scripts_import_only_what_they_need(name: str, unneeded: set[str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, str(SCRIPTS), name],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    modules = set(listed.stdout.split())
    assert {"pyarrow.parquet", "margin_cache.plan"} <= modules
    assert not modules & unneeded


@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        ("return 'read 7 rows'", 0, "read 7 rows\n"),
        ("raise MarginCacheError('a.parquet: is damaged')", 1, "error: a.parquet: is damaged\n"),
        ("open('/not/there')", 1, "error: /not/there: No such file or directory\n"),
        ("atexit.register(print, 'late'); return 'early'", 0, "early\n"),
    ],
)
def test_scripts_say_how_they_ended(work: str, code: int, said: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        ended = subprocess.run(
            [sys.executable, "-c", RUN.format(work), str(SCRIPTS)],
            stdout=file,
            stderr=file,
            check=False,
        )
    assert ended.returncode == code
    assert log.read_text() == said


def test_a_script_that_cannot_say_how_it_ended_fails() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", RUN.format("return 'done'"), str(SCRIPTS)],
            stdout=full,
            stderr=full,
            check=False,
        )
    assert ended.returncode != 0
