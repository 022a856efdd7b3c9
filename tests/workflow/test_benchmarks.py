"""All scripts in benchmarks/ run, at their smallest sizes; the figures do not matter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT
from support.peers import peer_python
from support.skips import lacking

BENCHMARKS = ROOT / "benchmarks"
MODULES = {"library.py", "workflow_jobs.py"}
ELSEWHERE = {"measure_slurm.py"}
"""Scripts that run in other tests: on a cluster."""

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("skies")
    for sky in ("tiny", "tiny_arrow"):
        run("benchmark_skies.py", sky, directory)
    return directory


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, BENCHMARKS / script, *map(str, arguments)]
    finished = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def check_tables(printed: str, rows: int) -> None:
    """Assert that tables have so many rows below their heads, and say how they were measured."""
    assert re.search(r"^\*(Measured|Estimated) with `python benchmarks/.*`, commit ", printed, re.M)
    tables = re.findall(r"^\|.*\n\|[-:|]+\n", printed, re.M)
    assert len(re.findall(r"^\|", printed, re.M)) - 2 * len(tables) == rows, printed


def test_all_scripts_are_tried() -> None:
    tried = set(re.findall(r"\w+\.py", Path(__file__).read_text(encoding="utf-8")))
    assert {file.name for file in BENCHMARKS.glob("*.py")} <= tried
    assert tried > MODULES | ELSEWHERE


def test_skies(tmp_path: Path) -> None:
    run("skies.py", "border", tmp_path)
    run("skies.py", "survey", tmp_path, "--rows", 3000, "--columns", 5)
    assert {path.name for path in tmp_path.iterdir()} == {"border", "survey"}


def test_compare(skies: Path, tmp_path: Path) -> None:
    tools = ("this workflow", "this workflow, HiPSCat", "bare read")
    where = ("--directory", skies, "--out", tmp_path)
    printed = run("compare.py", "--skies", "tiny", "--repeat", 1, *where, "--tools", *tools)
    check_tables(printed, 3)
    assert (tmp_path / "benchmark.png").exists()
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8") in printed


def test_sizes(skies: Path) -> None:
    peer_python("hats-import")
    check_tables(run("measure_sizes.py", "tiny", "--directory", skies), 13)


def test_margins(skies: Path) -> None:
    check_tables(run("measure_margins.py", "tiny", "--repeat", 1, "--directory", skies), 3)


def test_stages_and_the_model_of_scaling(skies: Path, tmp_path: Path) -> None:
    both = ("tiny", "tiny_arrow")
    printed = run("measure_stages.py", *both, "--directory", skies, "--out", tmp_path)
    check_tables(printed, 23)
    check_tables(run("scaling_model.py", "--fit", *both, "--check", "--results", tmp_path), 36)


def test_profile(skies: Path) -> None:
    if shutil.which("perf") is None:
        lacking("perf is needed")
    check_tables(run("profile_map.py", "tiny", "--directory", skies), 7)


def test_bare_read(skies: Path) -> None:
    run("read_all.py", skies / "tiny/hats/tiny")


@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("measure_audit.py", ("DIRECTORY", "--rows", 20_000), 4),
        ("measure_partition.py", (0.02, "--repeat", 1), 1),
        ("measure_resources.py", ("--scale", 0.001, "--cases", 1), 3),
        ("measure_scale.py", (12,), 1),
    ],
)
def test_measures(script: str, arguments: tuple[object, ...], rows: int, tmp_path: Path) -> None:
    arguments = tuple(tmp_path if argument == "DIRECTORY" else argument for argument in arguments)
    check_tables(run(script, *arguments), rows)


def test_remote() -> None:
    if not os.access("/usr/sbin/nginx", os.X_OK):
        lacking("nginx is needed")
    printed = run("measure_remote.py", "--partitions", 24, "--rows", 5000, "--latency", 0.001)
    assert printed.count("\n| ") == 3


def test_same_bytes() -> None:
    printed = run("same_bytes.py", ROOT, "--skies")
    assert len(re.findall(r"\d+ files, 0 differ", printed)) == 2
