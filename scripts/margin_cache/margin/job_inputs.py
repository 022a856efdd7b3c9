"""What jobs read: the partitions of a map job, the shards of a reduce job, the receipts of all."""

import time

from margin_cache.margin.model import Margin
from margin_cache.margin.paths import PROVENANCE


def partitions_read(margin: Margin, job: str) -> list[str]:
    """Return the partition files that a map job reads, as far as Snakemake shall know of them.

    Without those whose paths have braces, which Snakemake takes for wildcards, and without any if
    one is dated in the future, by a file server whose clock is wrong, since Snakemake would then
    find the shard too old. The state of all is in the job's name.
    """
    plan = margin.plan
    number = plan.map_job_of(job)
    if plan.newest_of(number) > time.time_ns():
        return []
    return [file for file in plan.files_of(number) if not set("{}") & set(file)]


def first_partition(margin: Margin, job: str) -> str | None:
    """Return a partition file that a job reads; None if it is no map job."""
    plan = margin.plan
    return plan.files_of(plan.map_job_of(job))[0] if job in plan.map_names else None


def shards_read(margin: Margin, job: str) -> list[str]:
    """Return the shards that a reduce job reads."""
    plan = margin.plan
    needs = plan.needs_of(plan.reduce_job_of(job))
    return [str(margin.files.shard(plan.map_names[need])) for need in needs]


def target(margin: Margin, is_pending: bool) -> str:
    """Return the file that a margin is done with: the last of a run, or the margin's own."""
    return str(margin.done_file if is_pending else margin.files.output_dir / PROVENANCE)
