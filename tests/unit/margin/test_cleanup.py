"""What interrupted runs have left beside a complete margin goes; what another works at stays."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.margin.existing import clean_up, has_leftovers
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin
from margin_cache.margin.prepare import start_margin
from support.stages import release_locks, run_map_jobs, run_reduce_jobs


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """Locks of a test end with it."""
    yield
    release_locks()


@pytest.mark.parametrize("same_place", [True, False])
def test_plans_for_the_same_output_are_deleted_and_others_kept(
    prepare: Callable[..., Margin], same_place: bool, tmp_path: Path
) -> None:
    """Of a run for another output_path, of the same name and tmp_dir, that was interrupted."""
    place = {} if same_place else {"output_path": str(tmp_path / "elsewhere")}
    other = prepare(margin_threshold=61.0, **place)
    run_map_jobs(other)
    margin = prepare()
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    finish_margin(margin)
    assert other.intermediate_dir == margin.intermediate_dir
    assert other.files.shards_dir.exists() != same_place
    assert other.files.plan.exists() != same_place


def test_leftovers_of_a_complete_margin_are_deleted(prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    finish_margin(margin)
    older = replace(margin.plan, library="0.0")
    other = replace(margin, plan=older)
    start_margin(other)
    (margin.files.backup_dir / "Norder=0").mkdir(parents=True)
    margin.files.shards_dir.mkdir()
    margin.files.shard("half").touch()
    assert not has_leftovers(margin)
    clean_up(margin)
    assert other.files.plan_dir.exists() and other.files.staging_dir.exists()
    assert not margin.files.shards_dir.exists()
    # The other run may be about to replace the margin, which lies there meanwhile.
    assert margin.files.backup_dir.exists()
    release_locks()
    assert has_leftovers(margin)
    clean_up(margin)
    assert not other.files.staging_dir.exists()
    assert not margin.files.backup_dir.exists()
    assert not has_leftovers(margin)
