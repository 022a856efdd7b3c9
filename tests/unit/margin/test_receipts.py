"""Receipts are read as they were written, and tell which jobs are done."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from margin_cache.margin.existing import Receipt, done_jobs, missing_receipts, read_receipt
from margin_cache.margin.model import Margin
from margin_cache.margin.prepare import lock_margin
from support.stages import release_locks, run_map_jobs, run_reduce_jobs

FOOTERS = {"job": "plan/receipt", "footers": 7, "footers_digest": "4567"}
FILES = {"Norder=0/Dir=0/Npix=1.parquet": [3, 1000, "0123"]}


@pytest.fixture
def reduced(prepare) -> Margin:
    margin = prepare()
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    return margin


def output_of(tmp_path: Path) -> Path:
    """Where the receipt of a plan's job is."""
    directory = tmp_path / "plan" / "receipts"
    directory.mkdir(parents=True)
    return directory / "receipt.json"


def test_a_receipt_is_read(tmp_path: Path) -> None:
    path = output_of(tmp_path)
    path.write_text(json.dumps({**FOOTERS, "files": FILES}))
    assert read_receipt(path) == Receipt(7, "4567", FILES)


@pytest.mark.parametrize(
    "content",
    [
        *({}, [], None, 3, FOOTERS, {"files": FILES}, {"footers": 7, "files": FILES}),
        {**FOOTERS, "job": "plan/other", "files": FILES},
        {**FOOTERS, "job": "other/receipt", "files": FILES},
    ],
)
def test_a_damaged_receipt_is_none(content: Any, tmp_path: Path) -> None:
    path = output_of(tmp_path)
    assert read_receipt(path) is None
    path.write_text(json.dumps(content))
    assert read_receipt(path) is None


@pytest.mark.parametrize("damage", ["none", "file", "footers", "{}", "[]", '{"footers": 1}'])
@pytest.mark.parametrize("locked", [False, True])
def test_receipts_of_files_that_are_gone_are_missing(
    reduced: Margin, damage: str, locked: bool
) -> None:
    """They are deleted unless a run is at work."""
    names = reduced.plan.reduce_names
    receipts = [reduced.files.receipt(name) for name in names]
    reduced.done_file.touch()
    if damage == "file":
        min(reduced.files.staging_dir.rglob("Npix=*")).unlink()
    if damage == "footers":
        reduced.files.footers(names[0]).unlink()
    if damage[0] in "[{":
        receipts[0].write_text(damage)
    if locked:
        lock_margin(reduced)
    missing = missing_receipts(reduced)
    release_locks()
    assert len(missing) == (0 if damage == "none" else 1)
    assert [receipt for receipt in receipts if not receipt.exists()] == ([] if locked else missing)
    assert reduced.done_file.exists() == locked


def test_files_of_the_older_margin_count(finished: Margin) -> None:
    """Those in the output directory, of which another one is gone."""
    first, *_ = sorted(finished.files.output_dir.rglob("Npix=*"))
    first.unlink()
    assert len(missing_receipts(finished)) == 1


def test_no_receipt_of_a_complete_margin_is_missing(finished: Margin) -> None:
    """Though all are gone: its finishing job does not need them."""
    shutil.rmtree(finished.files.receipts_dir)
    assert missing_receipts(finished) == []


def test_all_receipts_are_missing_at_first(prepare) -> None:
    margin = prepare()
    assert missing_receipts(margin) == list(map(margin.files.receipt, margin.plan.reduce_names))


def test_nothing_is_done_at_first(prepare):
    mapped, reduced = done_jobs(prepare())
    assert len(mapped) > 2 and len(reduced) > 2
    assert not mapped.any() and not reduced.any()


def test_shards_and_receipts_tell_what_is_done(prepare):
    margin = prepare()
    run_map_jobs(margin)
    margin.files.shard(margin.plan.map_names[1]).unlink()
    mapped, reduced = done_jobs(margin)
    assert np.flatnonzero(~mapped).tolist() == [1]
    assert not reduced.any()


def test_a_map_job_without_shard_is_done_if_no_reduce_job_needs_it(prepare):
    margin = prepare(partitions_per_job=1)
    mapped, reduced = finished_but(margin, 0)
    assert np.flatnonzero(~reduced).tolist() == [0]
    assert np.flatnonzero(~mapped).tolist() == margin.plan.needs_of(0).tolist()
    assert mapped.any()


def finished_but(margin: Margin, job: int):
    """What is done of a margin without shards and without the receipt of a job."""
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    margin.files.receipt(margin.plan.reduce_names[job]).unlink()
    for name in margin.plan.map_names:
        margin.files.shard(name).unlink()
    return done_jobs(margin)


def test_all_jobs_of_a_finished_margin_are_done(finished):
    assert all(each.all() for each in done_jobs(finished))
