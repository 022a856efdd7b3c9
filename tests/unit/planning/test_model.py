"""A plan is read as it was written, and named after everything that it depends on."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from margin_cache.catalog.model import CatalogInfo
from margin_cache.planning.jobs import make_plan
from margin_cache.planning.model import Plan, Task, load_plan, save_plan
from support.plans import TASK, partitions_of


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = make_plan(TASK, partitions_of(1))
    save_plan(plan, tmp_path / "deep" / "plan.npz")
    read = load_plan(tmp_path / "deep" / "plan.npz")
    assert read.task == plan.task
    assert (read.key, read.state) == (plan.key, plan.state)
    assert (read.map_names, read.reduce_names) == (plan.map_names, plan.reduce_names)
    for one, two in ((plan, read), (plan.partitions, read.partitions)):
        for name, value in vars(one).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(vars(two)[name], value)
                assert vars(two)[name].dtype == value.dtype
    for number, name in enumerate(plan.map_names):
        assert plan.map_job_of(name) == number
    for number, name in enumerate(plan.reduce_names):
        assert plan.reduce_job_of(name) == number
    with pytest.raises(FileNotFoundError):
        load_plan(tmp_path / "none.npz")


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + "x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", [f.name for f in fields(Task) if f.name != "catalog"])
def test_key_depends_on_everything_of_the_task(name: str) -> None:
    plan = make_plan(TASK, partitions_of(2))
    task = replace(TASK, **{name: changed(getattr(TASK, name))})
    assert replace(plan, task=task).key != plan.key


@pytest.mark.parametrize("name", [f.name for f in fields(CatalogInfo)])
def test_key_depends_on_everything_of_the_catalog(name: str) -> None:
    plan = make_plan(TASK, partitions_of(2))
    catalog = replace(TASK.catalog, **{name: changed(getattr(TASK.catalog, name))})
    assert replace(plan, task=replace(TASK, catalog=catalog)).key != plan.key


def test_key_depends_on_which_partitions_there_are_and_not_on_their_state() -> None:
    plan = make_plan(TASK, partitions_of(2))
    fewer = plan.partitions.take(np.arange(len(plan.partitions.orders) - 1))
    assert replace(plan, partitions=fewer).key != plan.key
    for name in ("sizes", "times"):
        other = with_change(plan, name, 3)
        assert other.key == plan.key
        assert other.state != plan.state


def with_change(plan: Plan, name: str, partition: int) -> Plan:
    values = getattr(plan.partitions, name).copy()
    values[partition] += 1
    return replace(plan, partitions=replace(plan.partitions, **{name: values}))


@pytest.mark.parametrize("name", ["sizes", "times"])
def test_only_jobs_that_read_a_partition_are_named_anew_when_it_changes(name: str) -> None:
    plan = make_plan(replace(TASK, partitions_per_job=2), partitions_of(3))
    other = with_change(plan, name, 5)
    renamed = [job for job, new in enumerate(other.map_names) if new != plan.map_names[job]]
    assert renamed == [2]
    readers = [job for job in range(len(plan.reduce_names)) if 2 in plan.needs_of(job)]
    renamed = [job for job, new in enumerate(other.reduce_names) if new != plan.reduce_names[job]]
    assert renamed == readers and 0 < len(readers) < len(plan.reduce_names)
    with pytest.raises(ValueError, match="not a job"):
        plan.map_job_of(other.map_names[2])
