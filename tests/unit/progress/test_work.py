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
    StageWork,
    amount,
    audit_amounts,
    together,
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
    return {stage: amounts.total for stage, amounts in work.stages.items()}


def test_jobs_add_up_to_the_whole(margin):
    plan = margin.plan
    work = work_of(margin, plan.map_names, plan.reduce_names)
    assert work.name == margin.name
    assert work.partitions == len(plan.partitions.orders)
    names = {Stage.MAPPING: plan.map_names, Stage.REDUCING: plan.reduce_names}
    assert all(len(each) > 2 for each in names.values())
    for stage, jobs in names.items():
        assert sum((amount(margin, stage, job) for job in jobs), Amount()) == total(work)[stage]
    assert amount(margin, Stage.FINISHING) == total(work)[Stage.FINISHING]
    assert total(work) == {
        Stage.MAPPING: Amount(len(plan.partitions.orders), int(plan.partitions.sizes.sum())),
        Stage.REDUCING: Amount(len(plan.destination_orders)),
        Stage.FINISHING: Amount(len(plan.destination_orders)),
    }
    assert all(amounts.done == Amount() for amounts in work.stages.values())


def test_what_an_earlier_run_has_done_is_counted(margin):
    names = margin.plan.map_names
    touch(*map(margin.files.shard, names[:2]))
    work = work_of(margin, names[2:], margin.plan.reduce_names)
    expected = amount(margin, Stage.MAPPING, names[0]) + amount(margin, Stage.MAPPING, names[1])
    assert work.stages[Stage.MAPPING].done == expected
    assert work.stages[Stage.REDUCING].done == Amount()


def test_a_finished_margin_that_is_finished_again_has_all_but_that_done(margin):
    touch(*map(margin.files.receipt, margin.plan.reduce_names))
    stages = work_of(margin, (), ()).stages
    assert stages[Stage.MAPPING].done == stages[Stage.MAPPING].total
    assert stages[Stage.REDUCING].done == stages[Stage.REDUCING].total
    assert stages[Stage.FINISHING].done == Amount()


def test_margins_are_added_up():
    one = MarginWork("a", 3, {stage: StageWork(Amount(5, 70), Amount(1, 2)) for stage in Stage})
    both = together([one, one])
    assert (both.name, both.partitions) == ("2 margins", 6)
    assert list(both.stages) == list(Stage)
    assert set(both.stages.values()) == {StageWork(Amount(10, 140), Amount(2, 4))}


def test_only_stages_that_some_have_are_added_up():
    work = StageWork(Amount(5, 70), Amount(1, 2))
    audit = MarginWork("a", 5, {Stage.AUDITING: work})
    assert together([audit]).stages == {Stage.AUDITING: work}
    mapping = MarginWork("b", 5, {Stage.MAPPING: work})
    assert together([audit, mapping]).stages == {Stage.MAPPING: work, Stage.AUDITING: work}


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_jobs_of_an_audit_add_up_to_the_catalog(margin, fraction):
    amounts = audit_amounts(margin, fraction)
    assert sum(amounts, Amount()) == amount_of_all(margin)
    assert len(amounts) > 1 and all(each.count for each in amounts)


def amount_of_all(margin: Margin) -> Amount:
    sizes = margin.plan.partitions.sizes
    return Amount(len(sizes), int(sizes.sum()))
