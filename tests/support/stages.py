"""The stages of a margin, one after the other in this process."""

import os

from margin_cache.margin import prepare
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import Margin
from margin_cache.margin.reduce import reduce_margins


def run_map_jobs(margin: Margin) -> None:
    """Do all map jobs of a margin."""
    for job, name in enumerate(margin.plan.map_names):
        map_partitions(margin.plan, job, margin.files.shard(name))


def run_reduce_jobs(margin: Margin) -> None:
    """Do all reduce jobs of a margin, whose shards are there."""
    for job in range(len(margin.plan.reduce_names)):
        reduce_margins(margin.plan, job, margin.files, margin.files.staging_dir)


def release_locks() -> None:
    """Release what begun margins have locked, which lasts as long as a process otherwise."""
    for descriptor in prepare._lock_descriptors:
        os.close(descriptor)
    prepare._lock_descriptors.clear()
