"""Which jobs are done follows from receipts and shards."""

import numpy as np
from margin_cache.margin.done_jobs import done_jobs
from margin_cache.margin.model import Margin
from support.stages import run_map_jobs, run_reduce_jobs


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


def test_a_deleted_shard_is_done_only_where_nobody_waits_for_it(prepare):
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


def test_what_a_run_is_going_to_do_is_not_done(finished):
    plan = finished.plan
    assert all(each.all() for each in done_jobs(finished))
    mapped, reduced = done_jobs(finished, {plan.map_names[0]}, {plan.reduce_names[1]})
    assert np.flatnonzero(~mapped).tolist() == [0]
    assert np.flatnonzero(~reduced).tolist() == [1]
