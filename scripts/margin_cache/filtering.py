"""The rows of a partition that are in margins: first by the spatial index, then by distance."""

import numpy as np
from numpy.typing import NDArray

from margin_cache.healpix.boundary import is_within
from margin_cache.healpix.neighbors import cells_and_neighbours
from margin_cache.healpix.nested import expand_ranges, pixel_ranges, touches_border
from margin_cache.planning.model import Plan


def rows_near_borders(
    plan: Plan, partition: int, index: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows of a partition in cells that touch a destination: the coarse filter.

    Args:
        plan: the plan.
        partition: index of the partition that holds the rows.
        index: values of the spatial index, shape (n,).

    Returns:
        Pairs of a row and a destination, as two index arrays; ascending rows.
    """
    task = plan.task
    order = int(plan.partitions.orders[partition])
    shift = task.catalog.index_shift + 2 * (task.catalog.index_order - task.cell_order)
    rows = np.arange(len(index))
    if order <= task.cell_order:
        # A row farther than the threshold from its own pixel's border is so from any other pixel.
        rows = np.flatnonzero(touches_border(index, shift, order, task.cell_order))
    cells, which = np.unique(
        (index[rows] >> index.dtype.type(shift)).astype(np.int64), return_inverse=True
    )
    cell, destination = _destinations_around(plan, cells, partition)
    first = np.searchsorted(cell, which)
    last = np.searchsorted(cell, which, side="right")
    pair, place = expand_ranges(first, last)
    return rows[pair], destination[place]


def are_in_margin(
    plan: Plan,
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    destinations: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell which rows near a destination are within the threshold of it: the exact filter.

    Args:
        plan: the plan.
        lon: right ascensions in degrees, shape (n,).
        lat: declinations in degrees, shape (n,).
        destinations: indices of the destinations, shape (n,).

    Returns:
        bool array of shape (n,); all true if the plan is without the exact filter.
    """
    if not plan.task.fine_filtering:
        return np.ones(len(lon), dtype=bool)
    return is_within(
        lon,
        lat,
        plan.destination_orders[destinations],
        plan.destination_pixels[destinations],
        plan.task.threshold,
    )


def _destinations_around(
    plan: Plan, cells: NDArray[np.int64], partition: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of a cell and a destination that overlaps it or a cell that touches it.

    Args:
        plan: the plan.
        cells: nested pixels of the coarse filter's order, shape (n,).
        partition: the partition that holds the cells; its own pixel is left out.

    Returns:
        Indices of cells, ascending, and of destinations; each pair once.
    """
    starts, ends = pixel_ranges(plan.destination_orders, plan.destination_pixels)
    around = cells_and_neighbours(plan.task.cell_order, cells)
    rows, places = np.nonzero(around >= 0)
    low, high = pixel_ranges(np.full(len(rows), plan.task.cell_order), around[rows, places])
    which, destination = expand_ranges(
        np.searchsorted(ends, low, side="right"), np.searchsorted(starts, high, side="left")
    )
    other = plan.destination_partitions[destination] != partition
    count = len(plan.destination_orders)
    return np.divmod(np.unique(rows[which[other]] * count + destination[other]), count)
