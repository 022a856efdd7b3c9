"""Partitions, pixels and bytes are counted, whatever jobs they are in."""

from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.config.model import MarginSettings
from margin_cache.margin.model import Margin
from margin_cache.progress.work import (
    Amount,
    MarginWork,
    Stage,
    StageProgress,
    audit_amounts,
    progress_of,
    work_of,
)
from support.plans import PARAMETERS, make_plan, partitions_of


@pytest.fixture
def margin(tmp_path: Path) -> Margin:
    plan = make_plan(replace(PARAMETERS, partitions_per_job=3), partitions_of(4))
    return Margin(
        MarginSettings(tmp_dir=str(tmp_path)), "sky_10arcs", tmp_path / "sky_10arcs", plan, "", {}
    )


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def total(work: MarginWork) -> dict[Stage, Amount]:
    return {stage: progress.total for stage, progress in progress_of([work]).items()}


def done(work: MarginWork) -> dict[Stage, Amount]:
    return {stage: progress.done for stage, progress in progress_of([work]).items()}


def test_jobs_add_up_to_the_whole(margin):
    plan = margin.plan
    touch(*map(margin.files.receipt, plan.reduce_names))
    work = work_of(margin, is_anew=True)
    assert work.name == margin.name
    assert work.partitions == len(plan.partitions.orders)
    assert list(work.jobs[Stage.MAPPING]) == list(plan.map_names)
    assert list(work.jobs[Stage.REDUCING]) == list(plan.reduce_names)
    assert min(len(plan.map_names), len(plan.reduce_names)) > 2
    assert total(work) == {
        Stage.MAPPING: Amount(len(plan.partitions.orders), int(plan.partitions.sizes.sum())),
        Stage.REDUCING: Amount(len(plan.destination_orders)),
        Stage.FINISHING: Amount(len(plan.destination_orders)),
    }
    assert set(done(work).values()) == {Amount()}


def test_what_an_earlier_run_has_done_is_counted(margin):
    names = margin.plan.map_names
    touch(*map(margin.files.shard, names[:2]))
    work = work_of(margin, is_anew=False)
    jobs = work.jobs[Stage.MAPPING]
    assert done(work)[Stage.MAPPING] == jobs[names[0]] + jobs[names[1]]
    assert done(work)[Stage.REDUCING] == Amount()


def test_a_finished_margin_that_is_finished_again_has_all_but_that_done(margin):
    touch(*map(margin.files.receipt, margin.plan.reduce_names))
    work = work_of(margin, is_anew=False)
    assert done(work) == total(work) | {Stage.FINISHING: Amount()}


def test_stages_of_several_margins_are_added_up(margin):
    touch(*map(margin.files.shard, margin.plan.map_names[:2]))
    work = work_of(margin, is_anew=False)
    both = progress_of([work, work_of(margin, is_anew=True)])
    for stage, progress in both.items():
        assert progress.total == total(work)[stage] + total(work)[stage]
        assert progress.before == progress.done == done(work)[stage]


def test_nothing_is_known_of_a_stage_before_its_first_job_ends():
    stage = StageProgress(Amount(5), Amount(1), Amount(1))
    assert stage.seconds_left(9.0) is None
    stage.start(3.0)
    stage.start(6.0)
    assert (stage.elapsed(9.0), stage.seconds_left(9.0)) == (6.0, None)
    stage.advance(Amount(2), 9.0)
    assert stage.seconds_left(9.0) == 6.0
    stage.advance(Amount(2), 10.0)
    assert (stage.elapsed(50.0), stage.seconds_left(50.0)) == (7.0, 0.0)


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_jobs_of_an_audit_add_up_to_the_catalog(margin, fraction):
    amounts = audit_amounts(margin, fraction)
    assert sum(amounts, Amount()) == amount_of_all(margin)
    assert len(amounts) > 1 and all(each.count for each in amounts)


def amount_of_all(margin: Margin) -> Amount:
    sizes = margin.plan.partitions.sizes
    return Amount(len(sizes), int(sizes.sum()))
