"""Which jobs of a margin are done, by the files that are there."""

from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from margin_cache.margin.model import Margin

Bools = NDArray[np.bool_]


def done_jobs(
    margin: Margin, mapping: Container[str] = (), reducing: Container[str] = ()
) -> tuple[Bools, Bools]:
    """Return for each map job whether it is done, and for each reduce job.

    Without its shard, which may have been deleted, a map job is done if no reduce job waits for it.

    Args:
        margin: the margin.
        mapping: names of map jobs that a run is going to do, whatever is there.
        reducing: the same of reduce jobs.
    """
    plan, files = margin.plan, margin.files
    is_reduced = np.array(
        [name not in reducing and files.receipt(name).exists() for name in plan.reduce_names],
        dtype=bool,
    )
    is_wanted = np.zeros(len(plan.map_names), dtype=bool)
    is_wanted[plan.needs[np.repeat(~is_reduced, np.diff(plan.need_bounds))]] = True
    is_mapped = np.array(
        [
            name not in mapping and (not wanted or files.shard(name).exists())
            for name, wanted in zip(plan.map_names, is_wanted.tolist(), strict=True)
        ],
        dtype=bool,
    )
    return is_mapped, is_reduced
