"""The two filters that find the rows of margins.

The coarse filter finds the rows of a partition that can be in margins by the spatial index. A
destination is a pixel that can have margin rows; a cell is a pixel of the margin order. A row is a
candidate for a destination that overlaps its cell or one that touches it. So candidates of a finer
margin order are among those of a coarser one. The exact filter takes the candidates' coordinates.
"""

import numpy as np
from numpy.typing import NDArray

from margin_cache.healpix.boundary import is_within
from margin_cache.healpix.neighbors import are_inside, cells_and_neighbours
from margin_cache.healpix.nested import (
    MAX_ORDER,
    Ints,
    Pixel,
    expand_ranges,
    pixel_ranges,
    touches_border,
)
from margin_cache.healpix.sides import Floats


def find_candidates(
    index: NDArray[np.integer],
    shift: int,
    partition: Pixel,
    destinations: tuple[Ints, Ints],
    margin_order: int,
) -> tuple[Ints, Ints]:
    """Find the destinations for which rows of a partition are candidates.

    Args:
        index: values of the spatial index, int64 or uint64 of shape (n,).
        shift: number of bits to the right of the bits of ``margin_order`` in the index.
        partition: the pixel that holds all rows.
        destinations: ``pixel_ranges`` of disjoint pixels in nested order, each of shape (d,); the
            partition's own pixel may be among them, and is left out.
        margin_order: order of the cells.

    Returns:
        Pairs of a row and a destination, as two index arrays of equal length; ascending rows.
    """
    rows = np.arange(len(index))
    if partition.order <= margin_order:
        # A row beyond the threshold from its own pixel's border is beyond it from other pixels too.
        rows = np.flatnonzero(touches_border(index, shift, partition.order, margin_order))
    cells, which = np.unique(
        (index[rows] >> index.dtype.type(shift)).astype(np.int64), return_inverse=True
    )
    cell, destination = _destinations_around(cells, margin_order, partition, destinations)
    first = np.searchsorted(cell, which)
    last = np.searchsorted(cell, which, side="right")
    pair, position = expand_ranges(first, last)
    return rows[pair], destination[position]


def _destinations_around(
    cells: Ints, margin_order: int, partition: Pixel, destinations: tuple[Ints, Ints]
) -> tuple[Ints, Ints]:
    """Return pairs of a cell and a destination that overlaps it or a cell that touches it.

    Returns:
        Indices of cells, ascending, and of destinations; each pair once.
    """
    starts, ends = destinations
    around = cells_and_neighbours(margin_order, cells)
    rows, columns = np.nonzero(around >= 0)
    low, high = pixel_ranges(np.full(len(rows), margin_order), around[rows, columns])
    which, found = expand_ranges(
        np.searchsorted(ends, low, side="right"), np.searchsorted(starts, high, side="left")
    )
    size = 1 << 2 * (MAX_ORDER - partition.order)
    own = partition.number * size
    other = (starts[found] != own) | (ends[found] != own + size)
    pairs = np.sort(rows[which[other]] * len(starts) + found[other])
    return np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], len(starts))


def are_in_margins(
    lon: Floats, lat: Floats, orders: Ints, pixels: Ints, threshold: float
) -> NDArray[np.bool_]:
    """Return a mask of the candidates that are in the margins of their destinations.

    Points are in degrees, the threshold in arcsec; arrays of shape (n,).
    """
    within = is_within(lon, lat, orders, pixels, threshold)
    # A row whose index says that it is beside a pixel may lie inside, far from the boundary.
    beyond = np.flatnonzero(~within)
    within[beyond] = are_inside(lon[beyond], lat[beyond], orders[beyond], pixels[beyond])
    return within
