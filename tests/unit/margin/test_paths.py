"""All paths of a margin follow from its output and the directory of its plan."""

import os
import re
from pathlib import Path

import pytest
from margin_cache.margin import paths
from margin_cache.margin.paths import (
    MarginFiles,
    PlanFiles,
    audit_results_dir,
    is_of_this_run,
)


def test_files_of_a_plan_are_below_its_directory() -> None:
    files = PlanFiles(Path("tmp/gaia/1234"))
    assert files.plan == Path("tmp/gaia/1234/plan.npz")
    assert files.shard("00001-ab") == Path("tmp/gaia/1234/shards/00001-ab.arrow")
    assert files.receipt("00002-cd") == Path("tmp/gaia/1234/receipts/00002-cd.json")
    assert files.footers("00002-cd") == Path("tmp/gaia/1234/receipts/00002-cd.parquet")
    assert files.shards_dir == Path("tmp/gaia/1234/shards")
    assert files.receipts_dir == Path("tmp/gaia/1234/receipts")


def test_a_margin_is_built_beside_its_output_directory() -> None:
    files = MarginFiles(Path("/scratch/me/gaia_10arcs/1234"), Path("/data/gaia_10arcs"))
    assert files.plan_dir == Path("/scratch/me/gaia_10arcs/1234")
    assert files.margin_file == Path("/scratch/me/gaia_10arcs/1234/margin.json")
    assert files.output_dir == Path("/data/gaia_10arcs")
    hidden = {files.staging_dir, files.finishing_dir("0123456789ab"), files.backup_dir}
    assert len(hidden) == 3
    assert all(path.parent == Path("/data") and path.name[0] == "." for path in hidden)


def test_leftovers_are_of_this_name_and_of_any_plan(tmp_path: Path) -> None:
    ids = "0123456789abcdef", "fedcba9876543210"
    files, older = (MarginFiles(Path(plan_id), tmp_path / "gaia") for plan_id in ids)
    assert files.left_behind() == []
    half = older.backup_dir.with_name(f"{older.backup_dir.name}.deleted")
    finishing = older.finishing_dir("0123456789ab")
    found = {files.staging_dir, older.staging_dir, finishing, older.backup_dir, half}
    for path in found:
        path.mkdir()
    # Of margins whose names begin or end with this one's, also such that look like a plan's id.
    for name in ("ztf", "gaia.wide", "my.gaia", f"gaia.{ids[1]}"):
        MarginFiles(Path(ids[0]), tmp_path / name).staging_dir.mkdir()
    (tmp_path / "gaia").mkdir()
    assert set(files.left_behind()) == found
    assert set(files.staging_locks()) == {files.staging_lock, older.staging_lock}
    assert MarginFiles(Path(ids[0]), tmp_path / "none" / "gaia").left_behind() == []


@pytest.mark.parametrize("name", ["SHARD", "RECEIPT", "FOOTERS", "DONE", "MAP_LOG", "REDUCE_LOG"])
def test_patterns_of_rules_have_the_wildcards_that_tell_jobs_apart(name: str) -> None:
    pattern = getattr(paths, name)
    assert pattern.startswith("{plan_dir}/")
    assert ("{fingerprint}" if name == "DONE" else "{job}") in pattern


def test_logs_of_earlier_runs_are_not_of_this_run(tmp_path: Path) -> None:
    files = PlanFiles(tmp_path)
    log = tmp_path / "logs/map_partitions/1.log"
    log.parent.mkdir(parents=True)
    log.touch()
    assert is_of_this_run(str(log))  # nothing tells when the run began
    files.plan_lock.touch()
    os.utime(log, (0, 0))
    assert not is_of_this_run(str(log))
    log.touch()
    assert is_of_this_run(str(log))
    assert is_of_this_run("cluster.log") and is_of_this_run("not/there/at/all.log")


def test_an_audit_is_beside_the_margin() -> None:
    files = MarginFiles(Path("/scratch/me/gaia_10arcs/1234"), Path("/data/gaia_10arcs"))
    assert files.audit_file == Path("/data/gaia_10arcs_audit/audit.json")
    assert audit_results_dir("/data", "/data/gaia_10arcs") == files.audit_file.parent
    elsewhere = audit_results_dir("/data", "/other/gaia_10arcs")
    assert re.fullmatch(r"/data/gaia_10arcs-[0-9a-f]{8}_audit", str(elsewhere))
    for pattern in (paths.AUDIT_FINDINGS, paths.AUDIT_LOG, paths.AUDIT_BENCHMARK):
        assert pattern.startswith("{audit_dir}/") and "{job}" in pattern


def test_an_audit_of_a_margin_in_a_store_is_in_the_working_directory() -> None:
    plan, url = Path("/scratch/me/gaia_10arcs/1234"), "s3://sky/lab/gaia_10arcs"
    files = MarginFiles(plan, plan.parent / "gaia_10arcs", url)
    assert files.audit_file == Path("gaia_10arcs_audit/audit.json")
    assert audit_results_dir("s3://sky//lab/", url) == files.audit_file.parent
    others = [
        str(audit_results_dir(*locations))
        for locations in (
            ("s3://sky/other", url),
            ("s3://sky/lab", "s3://sky/lab/deeper/gaia_10arcs"),
            ("s3://sky/lab", "/data/gaia_10arcs"),
        )
    ]
    assert len(set(others)) == 3
    assert all(re.fullmatch(r"gaia_10arcs-[0-9a-f]{8}_audit", other) for other in others)
    assert str(audit_results_dir("results", url)).startswith("results/gaia_10arcs-")
