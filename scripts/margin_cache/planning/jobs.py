"""How the work at a margin is cut into jobs.

A plan follows from the catalog and the settings, never from the machine, so a run that is resumed
elsewhere finds its files. Jobs cover runs of partitions that are consecutive in nested order, hence
close on the sky.
"""

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.model import INDEX_TOLERANCE, Partitions
from margin_cache.healpix.neighbors import pixels_within
from margin_cache.healpix.nested import (
    Ints,
    finest_margin_order,
    negative_pixels,
    pixel_ranges,
)
from margin_cache.planning.model import MarginParameters, Plan, job_label

_MB = 10**6

# Auto jobs: a catalog that is too small for the wanted number of full size is cut into that many
# smaller ones, but none is smaller than the least, whose start-up takes longer than its work.
_JOBS_WANTED = 4
_LEAST_JOB = 128 * _MB
_MOST_JOBS = 4096  # map jobs, so that Snakemake's own work stays below a minute

_PARTITION = _MB // 4  # weight of opening a file: reading so much takes as long

# Up to so many, all jobs have about the same size. Their number is one, two, or a multiple of a
# number of processors, so that few processors share them evenly.
_EVEN_JOBS, _PROCESSORS = 32, 4

_REDUCE_FACTOR = 32  # Parquet of a reduce job, as a multiple of that of a map job
_LEAST_PIXELS, _REDUCE_PIXELS = 96, 1024  # bounds of a reduce job's destinations; else half of all


def make_plan(
    parameters: MarginParameters, schema: pa.Schema, partitions: Partitions, library: str
) -> Plan:
    count = len(partitions)
    negative_orders, negative = negative_pixels(partitions.orders, partitions.pixels)
    orders = np.concatenate([partitions.orders, negative_orders])
    pixels = np.concatenate([partitions.pixels, negative])
    destination_partitions = np.concatenate([np.arange(count), np.full(len(negative), -1)])
    nested = np.argsort(pixel_ranges(orders, pixels)[0])
    orders, pixels, destination_partitions = (
        orders[nested],
        pixels[nested],
        destination_partitions[nested],
    )

    map_bounds, reduce_bounds = _group(parameters, partitions.sizes, destination_partitions)
    within = math.inf, parameters.margin_order
    if parameters.fine_filtering:
        radius = parameters.threshold + INDEX_TOLERANCE
        within = radius, finest_margin_order(radius)
    sources, destinations = pixels_within(
        (partitions.orders, partitions.pixels), (orders, pixels), *within
    )
    other = destination_partitions[destinations] != sources
    map_jobs = np.searchsorted(map_bounds, sources[other], side="right") - 1
    reduce_jobs = np.searchsorted(reduce_bounds, destinations[other], side="right") - 1
    edges = np.unique(reduce_jobs * (len(map_bounds) - 1) + map_jobs)
    reducing, needs = np.divmod(edges, len(map_bounds) - 1)
    need_bounds = np.searchsorted(reducing, np.arange(len(reduce_bounds)))
    return Plan(
        library=library,
        parameters=parameters,
        schema=schema,
        partitions=partitions,
        destination_orders=orders,
        destination_pixels=pixels,
        destination_partitions=destination_partitions,
        map_bounds=map_bounds,
        reduce_bounds=reduce_bounds,
        need_bounds=need_bounds,
        needs=needs,
    )


def audit_bounds(plan: Plan, fraction: float) -> Ints:
    """Return the bounds of the jobs of an audit, like ``map_bounds``.

    Jobs cover the partitions of one map job each, or of several if they check a sample of them.
    """
    firsts = plan.map_bounds[:-1][:: max(1, round(1 / fraction))]
    return np.append(firsts, len(plan.partitions))


def audit_jobs(plan: Plan, fraction: float) -> tuple[list[str], list[int]]:
    """Return the names of the jobs of an audit, and the first nested index (order 29) of each."""
    partitions, names = plan.partitions, []
    bounds = audit_bounds(plan, fraction)
    for job, (start, stop) in enumerate(pairwise(bounds)):
        label = job_label(partitions.orders[start:stop], partitions.pixels[start:stop])
        state = plan.map_names[int(np.searchsorted(plan.map_bounds, start))].rpartition("-")[2]
        names.append(f"{job:05d}-{label}-{state}")
    firsts = bounds[:-1]
    starts = pixel_ranges(partitions.orders[firsts], partitions.pixels[firsts])[0]
    return names, starts.tolist()


def _group(
    parameters: MarginParameters, sizes: Ints, destination_partitions: Ints
) -> tuple[Ints, Ints]:
    if parameters.partitions_per_job != "auto":
        per_job = int(parameters.partitions_per_job)
        partitions, destinations = len(sizes), len(destination_partitions)
        return (
            np.append(np.arange(0, partitions, per_job), partitions),
            np.append(np.arange(0, destinations, per_job), destinations),
        )
    sizes = sizes + _PARTITION
    total = int(sizes.sum())
    limit = min(parameters.job_size_mb * _MB, max(_LEAST_JOB, total / _JOBS_WANTED))
    # In steps, so that a partition of another size does not change it.
    while len(map_bounds := _bounds(sizes, limit)) > _MOST_JOBS + 1:
        limit *= 2
    reduced = _REDUCE_FACTOR * limit
    pixels = min(_REDUCE_PIXELS, max(_LEAST_PIXELS, len(destination_partitions) / 2))
    weights = np.where(destination_partitions < 0, 0, sizes[destination_partitions])
    return map_bounds, _bounds(np.maximum(weights, reduced / pixels), reduced)


def _bounds(weights: NDArray[np.number], weight: float) -> Ints:
    """Cut a sequence into runs of about the same weight.

    If the runs are few, their weights are nearly equal, so that no processor waits for another. If
    they are many, each is filled before the next begins: a changed weight then moves only the next
    few cuts, and the files of all other jobs stay valid.
    """
    sums = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    count = max(1, round(sums[-1] / weight))
    middles = (sums[:-1] + sums[1:]) / 2
    if count <= _EVEN_JOBS:
        if count > 2:
            count = _PROCESSORS * round(count / _PROCESSORS)
        cuts = np.searchsorted(middles, sums[-1] / count * np.arange(1, count))
        return np.union1d(cuts, [0, len(weights)])
    bounds = [0]
    while bounds[-1] < len(weights):
        stop = int(np.searchsorted(middles, sums[bounds[-1]] + weight))
        bounds.append(max(stop, bounds[-1] + 1))
    return np.array(bounds)
