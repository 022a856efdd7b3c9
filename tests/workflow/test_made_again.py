"""A finished margin is made again on demand; the old one stays until the new one is whole."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.faulty_margins import make_in
from support.killed_runs import resume, run_of
from support.margins import NAME, configuration, margin_digests, remains
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    catalog = small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=600, max_rows=100)
    return configuration(catalog, partitions_per_job=5)


def jobs(output: str) -> dict[str, int]:
    """The jobs that a run has announced, by their rules."""
    return {
        rule: int(count)
        for rule, count in re.findall(r"^(\w+_margins?|map_partitions) +(\d+)$", output, re.M)
    }


def a_partition(directory: Path) -> Path:
    return next((directory / "results" / NAME).rglob("Npix=*.parquet"))


def test_forceall_rebuilds_a_margin(tmp_path: Path, config: dict[str, Any]):
    everything = jobs(run_workflow(tmp_path, "-n", config=config, check=True).stdout)
    assert everything["map_partitions"] > 2 and everything["reduce_margins"] > 2
    make_in(tmp_path, config)
    before = margin_digests(tmp_path)
    planned = run_workflow(tmp_path, "-n", "--forceall", check=True).stdout
    assert jobs(planned) == everything
    assert margin_digests(tmp_path) == before
    # With its size: only one that is made again is whole.
    a_partition(tmp_path).write_bytes(bytes(a_partition(tmp_path).stat().st_size))
    made = run_workflow(tmp_path, "--forceall", check=True).stdout
    assert jobs(made) == everything
    assert f"rows in {sum('Npix' in name for name in before)} files" in made
    assert margin_digests(tmp_path) == before
    assert remains(tmp_path) == []
    assert "Nothing to be done" in run_workflow(tmp_path).stdout


def test_a_killed_forceall_run_keeps_the_old_margin(tmp_path: Path, config: dict[str, Any]):
    make_in(tmp_path, config)
    before = margin_digests(tmp_path)
    inode = (tmp_path / "results" / NAME / "partition_info.csv").stat().st_ino
    with run_of(tmp_path, config, "-F") as run:
        run.wait_for(lambda: run.workers("reduce_margins.py"))
        run.kill_group()
        assert margin_digests(tmp_path) == before
        run_workflow(tmp_path, "--unlock", check=True)
        # It is complete, so only what the killed run has left is deleted.
        left = jobs(run_workflow(tmp_path, "-n", check=True).stdout)
        assert left == {"finish_margin": 1}
        resume(tmp_path)
    assert margin_digests(tmp_path) == before
    assert (tmp_path / "results" / NAME / "partition_info.csv").stat().st_ino == inode
    assert remains(tmp_path) == []
    assert "Nothing to be done" in run_workflow(tmp_path).stdout


def test_without_resume_each_run_makes_the_margin_anew(tmp_path: Path, config: dict[str, Any]):
    everything = jobs(run_workflow(tmp_path, "-n", config=config, check=True).stdout)
    make_in(tmp_path, config)
    before = margin_digests(tmp_path)
    anew = config | {"resume": False}
    for _ in range(2):
        inode = (tmp_path / "results" / NAME / "partition_info.csv").stat().st_ino
        assert jobs(run_workflow(tmp_path, config=anew, check=True).stdout) == everything
        assert margin_digests(tmp_path) == before
        assert (tmp_path / "results" / NAME / "partition_info.csv").stat().st_ino != inode
        assert len(list(tmp_path.glob("intermediate/*/*/plan.npz"))) == 1
    assert "Nothing to be done" in run_workflow(tmp_path, config=config).stdout
