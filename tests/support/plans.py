"""What plans of margins are made of, without a catalog on disk."""

import numpy as np
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.planning.model import Task

from support.tilings import random_partitions

TASK = Task(
    catalog=CatalogInfo(
        format="hipscat",
        path="sky",
        name="sky",
        epoch="J2000",
        ra_column="ra",
        dec_column="dec",
        index_column="_hipscat_index",
        index_order=19,
        index_shift=22,
    ),
    threshold=10.0,
    cell_order=13,
    fine_filtering=True,
    compression="snappy",
    row_group_rows=1 << 20,
    schema_digest="0123",
    partitions_per_job="auto",
    job_size_mb=256.0,
    create_metadata=True,
)


def partitions_of(seed: int, largest: int = 10**8, targets: int = 20) -> Partitions:
    rng = np.random.default_rng(seed)
    pixels = random_partitions(rng, 6, targets)
    sizes = rng.integers(1, largest, len(pixels))
    return Partitions(*pixels.T.copy(), sizes, rng.integers(1, 10**18, len(pixels)))
