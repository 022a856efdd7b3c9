"""Planning: how the work at a margin is divided into jobs.

Everything in a plan follows from the catalog and the settings, never from the machine, so a run
that is resumed elsewhere finds its files. Jobs cover runs of partitions that are consecutive in
nested order, hence close on the sky.
"""

import math

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.model import Partitions
from margin_cache.healpix.boundary import distance_to_pixel
from margin_cache.healpix.neighbors import cells_and_neighbours, centres
from margin_cache.healpix.nested import (
    ARCSEC_PER_RADIAN,
    expand_ranges,
    finest_margin_order,
    negative_pixels,
    pixel_ranges,
    resolution,
)
from margin_cache.planning.model import Ints, Plan, Task

_MB = 10**6

_LEAST_JOB = 128 * _MB
"""An auto job on a small catalog covers about this much, or start-up takes longer than its work."""

_PARTITION = _MB // 4
"""What a partition counts beside its size: opening its file takes as long as reading so much."""

_JOBS_WANTED = 4
"""A catalog too small for this many jobs of full size is cut into so many smaller ones."""

_EVEN_JOBS = 32
"""Up to so many auto jobs are all alike."""

_PROCESSORS = 4
"""If these are more than two, they are a multiple of this, which few processors share evenly."""

_MOST_JOBS = 4096
"""The most map jobs that auto makes, so that Snakemake's own work stays below a minute."""

_REDUCE_FACTOR = 32
"""How much more Parquet a reduce job's destinations hold than a map job's partitions."""

_LEAST_PIXELS, _REDUCE_PIXELS = 48, 256
"""The destinations of an auto reduce job, about, where they are small: of few and of many."""

_CIRCUMRADIUS = 1.11
"""No point of a pixel is farther from its centre than this times the resolution of its order."""


def make_plan(task: Task, partitions: Partitions) -> Plan:
    """Make the plan of a margin.

    Args:
        task: what shapes the margin.
        partitions: the partitions of the primary catalog, in nested order.
    """
    count = len(partitions.orders)
    negative_orders, negative = negative_pixels(partitions.orders, partitions.pixels)
    orders = np.concatenate([partitions.orders, negative_orders])
    pixels = np.concatenate([partitions.pixels, negative])
    owners = np.concatenate([np.arange(count), np.full(len(negative), -1)])
    nested = np.argsort(pixel_ranges(orders, pixels)[0])
    orders, pixels, owners = orders[nested], pixels[nested], owners[nested]

    map_bounds, reduce_bounds = _group(task, partitions.sizes, owners)
    reach = (
        (task.threshold, finest_margin_order(task.threshold))
        if task.fine_filtering
        else (math.inf, task.cell_order)
    )
    sources, destinations = pixels_within(
        (partitions.orders, partitions.pixels), (orders, pixels), *reach
    )
    other = owners[destinations] != sources
    map_jobs = np.searchsorted(map_bounds, sources[other], side="right") - 1
    reduce_jobs = np.searchsorted(reduce_bounds, destinations[other], side="right") - 1
    edges = np.unique(reduce_jobs * (len(map_bounds) - 1) + map_jobs)
    reducing, needs = np.divmod(edges, len(map_bounds) - 1)
    need_bounds = np.searchsorted(reducing, np.arange(len(reduce_bounds)))
    return Plan(
        task, partitions, orders, pixels, owners, map_bounds, reduce_bounds, need_bounds, needs
    )


def _group(task: Task, sizes: Ints, owners: Ints) -> tuple[Ints, Ints]:
    """Return the bounds of map and of reduce jobs."""
    if task.partitions_per_job != "auto":
        per_job = int(task.partitions_per_job)
        return tuple(
            np.append(np.arange(0, count, per_job), count) for count in (len(sizes), len(owners))
        )
    sizes = sizes + _PARTITION
    total = int(sizes.sum())
    limit = min(task.job_size_mb * _MB, max(_LEAST_JOB, total / _JOBS_WANTED))
    # By steps, so that a partition of another size does not change it.
    while total > _MOST_JOBS * limit:
        limit *= 2
    # Where most partitions are somewhat smaller than a job, each is one.
    while len(map_bounds := _bounds(sizes, limit)) > _MOST_JOBS + 1:
        limit *= 2
    reduced = _REDUCE_FACTOR * limit
    pixels = min(_REDUCE_PIXELS, max(_LEAST_PIXELS, len(owners) / 2))
    weights = np.where(owners < 0, 0, sizes[owners])
    return map_bounds, _bounds(np.maximum(weights, reduced / pixels), reduced)


def _bounds(weights: NDArray[np.number], wanted: float) -> Ints:
    """Cut a sequence into runs of about the weight wanted.

    A few runs are nearly the same, so that no processor waits for another. Many are filled one
    after the other, because then a weight that changes moves only the cuts behind it, and these
    only until one is where it was: what has been done for the others stays done.
    """
    sums = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    count = max(1, round(sums[-1] / wanted))
    middles = (sums[:-1] + sums[1:]) / 2
    if count <= _EVEN_JOBS:
        if count > 2:
            count = _PROCESSORS * round(count / _PROCESSORS)
        cuts = np.searchsorted(middles, sums[-1] / count * np.arange(1, count))
        return np.union1d(cuts, [0, len(weights)])
    bounds = [0]
    while bounds[-1] < len(weights):
        stop = int(np.searchsorted(middles, sums[bounds[-1]] + wanted))
        bounds.append(max(stop, bounds[-1] + 1))
    return np.array(bounds)


def pixels_within(
    sources: tuple[Ints, Ints], destinations: tuple[Ints, Ints], threshold: float, finest: int
) -> tuple[Ints, Ints]:
    """Return the pairs of pixels of which one can hold rows in the margin of the other.

    Two disjoint pixels whose distance is at most the threshold touch, if the cells of the finer
    one's order are nowhere thinner than the threshold. Then the coarser one holds a neighbour of
    the finer one. Pairs with a pixel finer than that are found by the neighbours of the cell that
    it lies in, and sifted by distance, which leaves a few too many.

    Args:
        sources: orders and pixels of disjoint pixels in nested order, each of shape (s,).
        destinations: the same, of shape (d,).
        threshold: angular distance in arcsec; infinite for all pairs with cells that touch.
        finest: finest order of cells to look at, none of them thinner than a finite threshold.

    Returns:
        Indices of sources and of destinations, of equal length, each pair once.
    """
    forward = _overlapping(sources, destinations, finest)
    backward = _overlapping(destinations, sources, finest)
    # From either side, pixels that are no finer than the cells looked at; from the side of the
    # sources, finer ones as well where both are finer than the cells.
    source_orders, destination_orders = sources[0], destinations[0]
    from_source = (destination_orders[forward[1]] <= source_orders[forward[0]]) | (
        source_orders[forward[0]] > finest
    )
    from_destination = source_orders[backward[1]] < destination_orders[backward[0]]
    count = len(destination_orders)
    pairs = np.unique(
        np.concatenate(
            [
                forward[0][from_source] * count + forward[1][from_source],
                backward[1][from_destination] * count + backward[0][from_destination],
            ]
        )
    )
    found_sources, found_destinations = np.divmod(pairs, count)
    near = _are_near(
        tuple(values[found_sources] for values in sources),
        tuple(values[found_destinations] for values in destinations),
        threshold,
        finest,
    )
    return found_sources[near], found_destinations[near]


def _overlapping(
    pixels: tuple[Ints, Ints], others: tuple[Ints, Ints], finest: int
) -> tuple[Ints, Ints]:
    """Return pairs of a pixel and another that overlaps its cell or a cell that touches it."""
    starts, ends = pixel_ranges(*others)
    found, found_others = [], []
    for order in np.unique(pixels[0]):
        chosen = np.flatnonzero(pixels[0] == order)
        cell_order = min(int(order), finest)
        cells = cells_and_neighbours(
            cell_order, pixels[1][chosen] >> (2 * (int(order) - cell_order))
        )
        rows, places = np.nonzero(cells >= 0)
        low, high = pixel_ranges(np.full(len(rows), cell_order), cells[rows, places])
        first = np.searchsorted(ends, low, side="right")
        last = np.searchsorted(starts, high, side="left")
        if cell_order == order:
            # Others finer than this pixel find it from their side.
            last = np.minimum(last, first + 1)
        which, other = expand_ranges(first, last)
        found.append(chosen[rows[which]])
        found_others.append(other)
    return np.concatenate(found), np.concatenate(found_others)


def _are_near(
    sources: tuple[Ints, Ints], destinations: tuple[Ints, Ints], threshold: float, finest: int
) -> NDArray[np.bool_]:
    """Tell which pairs, each of shape (n,), can lie within the threshold of one another."""
    near = np.ones(len(sources[0]), dtype=bool)
    swap = sources[0] > destinations[0]
    finer = tuple(np.where(swap, one, two) for one, two in zip(sources, destinations, strict=True))
    coarser = tuple(
        np.where(swap, two, one) for one, two in zip(sources, destinations, strict=True)
    )
    unsure = np.flatnonzero(finer[0] > finest)
    fine_lon, fine_lat = centres(finer[0][unsure], finer[1][unsure])
    radius = _circumradius(finer[0][unsure])
    centre_distance = _separation(
        fine_lon, fine_lat, *centres(coarser[0][unsure], coarser[1][unsure])
    )
    near[unsure] = centre_distance <= threshold + radius + _circumradius(coarser[0][unsure])
    # The circle around a much coarser pixel says little; its boundary says all.
    unequal = near[unsure] & (finer[0][unsure] > coarser[0][unsure] + 1)
    rows = unsure[unequal]
    distance = distance_to_pixel(
        fine_lon[unequal], fine_lat[unequal], coarser[0][rows], coarser[1][rows]
    )
    near[rows] = distance <= threshold + radius[unequal]
    return near


def _circumradius(orders: Ints) -> NDArray[np.float64]:
    return _CIRCUMRADIUS * resolution(0) / np.exp2(orders)


def _separation(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    other_lon: NDArray[np.float64],
    other_lat: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the angular separation, in arcsec, of points in degrees (the haversine formula)."""
    lon, lat, other_lon, other_lat = (np.deg2rad(v) for v in (lon, lat, other_lon, other_lat))
    square = (
        np.sin((lat - other_lat) / 2) ** 2
        + np.cos(lat) * np.cos(other_lat) * np.sin((lon - other_lon) / 2) ** 2
    )
    return 2 * ARCSEC_PER_RADIAN * np.arcsin(np.sqrt(np.clip(square, 0, 1)))
