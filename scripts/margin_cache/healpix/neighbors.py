"""Which pixels touch or are near each other, and the filters that find the rows of margins."""

import hpgeom
import numpy as np
from numpy.typing import NDArray

from margin_cache.healpix.boundary import distance_to_pixel, is_within
from margin_cache.healpix.nested import (
    ARCSEC_PER_RADIAN,
    MAX_ORDER,
    Floats,
    Ints,
    Pixel,
    expand_ranges,
    pixel_ranges,
    resolution,
    touches_border,
)

_CIRCUMRADIUS = 1.11
"""No point of a pixel is farther from its centre than this times the resolution of its order."""


def cells_and_neighbours(order: int, cells: Ints) -> Ints:
    """Return each of n cells, in nested numbers, with the up to eight cells that touch it.

    Returns:
        int64 array of shape (n, 9); the cell itself first, -1 where there is no neighbour (eight
        vertices of the sphere have only seven pixels around them).
    """
    around = hpgeom.neighbors(2**order, cells, nest=True)
    return np.concatenate([cells[:, None], around.reshape(len(cells), 8)], axis=1)


def centres(orders: NDArray[np.integer], pixels: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return longitude and latitude of the centres of pixels, in degrees, each of shape (n,)."""
    nside = np.int64(1) << np.asarray(orders, dtype=np.int64)
    return hpgeom.pixel_to_angle(nside, np.asarray(pixels, dtype=np.int64), nest=True, lonlat=True)


def pixels_at(order: int, lon: Floats, lat: Floats) -> Ints:
    """Return the nested numbers of the pixels that contain points, all of shape (n,).

    Points are in degrees; longitudes may be of any turn.
    """
    return hpgeom.angle_to_pixel(2**order, lon % 360, lat, nest=True, lonlat=True)


def _pixels_around(order: int, cells: Ints, pixels: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Return pairs of a cell and a pixel that overlaps it or a cell that touches it.

    ``pixels`` are the ``pixel_ranges`` of disjoint pixels in nested order. The pairs are indices; a
    pair is there more than once if the pixel overlaps several of these cells.
    """
    starts, ends = pixels
    around = cells_and_neighbours(order, cells)
    rows, columns = np.nonzero(around >= 0)
    low, high = pixel_ranges(np.full(len(rows), order), around[rows, columns])
    which, pixel = expand_ranges(
        np.searchsorted(ends, low, side="right"), np.searchsorted(starts, high, side="left")
    )
    return rows[which], pixel


# --- pairs of pixels -----------------------------------------------------------------------------


def pixels_within(
    sources: tuple[Ints, Ints], destinations: tuple[Ints, Ints], threshold: float, finest: int
) -> tuple[Ints, Ints]:
    """Return the pairs of a source that can hold rows in the margin of a destination.

    A pixel that is both is paired with itself.

    Two disjoint pixels whose distance is at most the threshold touch, if the cells of the finer
    one's order are nowhere thinner than the threshold. Then the coarser one contains a neighbour of
    the finer one. Pairs with a pixel finer than ``finest`` are found by the neighbours of the cell
    of that order that contains it, and then selected by distance, which keeps a few too many.

    Args:
        sources: orders and numbers of disjoint pixels in nested order, each of shape (s,).
        destinations: the same, of shape (d,).
        threshold: angular distance in arcsec; infinite for all pairs with cells that touch.
        finest: finest order of the cells, which are nowhere thinner than a finite threshold.

    Returns:
        Indices of sources and of destinations, of equal length, each pair once.
    """
    finer_source, coarser_destination = _touching(sources, destinations, finest)
    finer_destination, coarser_source = _touching(destinations, sources, finest)
    count = len(destinations[0])
    source, destination = np.divmod(
        np.union1d(
            finer_source * count + coarser_destination, coarser_source * count + finer_destination
        ),
        count,
    )
    near = _are_near(
        (sources[0][source], sources[1][source]),
        (destinations[0][destination], destinations[1][destination]),
        threshold,
        finest,
    )
    return source[near], destination[near]


def _touching(
    pixels: tuple[Ints, Ints], others: tuple[Ints, Ints], finest: int
) -> tuple[Ints, Ints]:
    """Return pairs of a pixel and another, not finer, that overlaps or touches it.

    Of a pixel finer than ``finest``, the cell of that order that contains it is taken instead.
    """
    found, found_others = [], []
    for order in np.unique(pixels[0]).tolist():
        chosen = np.flatnonzero(pixels[0] == order)
        coarser = np.flatnonzero(others[0] <= order)
        cell_order = min(order, finest)
        cells = pixels[1][chosen] >> 2 * (order - cell_order)
        ranges = pixel_ranges(others[0][coarser], others[1][coarser])
        which, other = _pixels_around(cell_order, cells, ranges)
        found.append(chosen[which])
        found_others.append(coarser[other])
    return np.concatenate(found), np.concatenate(found_others)


def _are_near(
    sources: tuple[Ints, Ints], destinations: tuple[Ints, Ints], threshold: float, finest: int
) -> NDArray[np.bool_]:
    """Return a mask of the n pairs that can be within the threshold of each other."""
    near = np.ones(len(sources[0]), dtype=bool)
    swap = sources[0] > destinations[0]
    finer = np.where(swap, sources, destinations)
    coarser = np.where(swap, destinations, sources)
    unsure = np.flatnonzero(finer[0] > finest)
    fine_lon, fine_lat = centres(finer[0][unsure], finer[1][unsure])
    radius = _circumradius(finer[0][unsure])
    centre_distance = _separation(
        fine_lon, fine_lat, *centres(coarser[0][unsure], coarser[1][unsure])
    )
    near[unsure] = centre_distance <= threshold + radius + _circumradius(coarser[0][unsure])
    # The circle around a much coarser pixel is a poor bound; the distance to its boundary is exact.
    unequal = near[unsure] & (finer[0][unsure] > coarser[0][unsure] + 1)
    rows = unsure[unequal]
    distance = distance_to_pixel(
        fine_lon[unequal], fine_lat[unequal], coarser[0][rows], coarser[1][rows]
    )
    near[rows] = distance <= threshold + radius[unequal]
    return near


def _circumradius(orders: Ints) -> Floats:
    return _CIRCUMRADIUS * resolution(0) / np.exp2(orders)


def _separation(lon: Floats, lat: Floats, other_lon: Floats, other_lat: Floats) -> Floats:
    """Return the angular separation, in arcsec, of points in degrees (the haversine formula)."""
    lon, lat, other_lon, other_lat = (np.deg2rad(v) for v in (lon, lat, other_lon, other_lat))
    square = (
        np.sin((lat - other_lat) / 2) ** 2
        + np.cos(lat) * np.cos(other_lat) * np.sin((lon - other_lon) / 2) ** 2
    )
    return 2 * ARCSEC_PER_RADIAN * np.arcsin(np.sqrt(np.clip(square, 0, 1)))


# --- the two filters of rows ---------------------------------------------------------------------


def find_candidates(
    index: NDArray[np.integer],
    shift: int,
    partition: Pixel,
    destinations: tuple[Ints, Ints],
    margin_order: int,
) -> tuple[Ints, Ints]:
    """Find the destinations for which rows of a partition are candidates, by the spatial index.

    A destination is a pixel that can have margin rows; a cell is a pixel of the margin order. A row
    is a candidate for a destination that overlaps its cell or one that touches it. So candidates of
    a finer margin order are among those of a coarser one.

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
    cell, destination = _pixels_around(margin_order, cells, destinations)
    starts, ends = destinations
    size = 1 << 2 * (MAX_ORDER - partition.order)
    own = partition.number * size
    is_other = (starts[destination] != own) | (ends[destination] != own + size)
    pairs = np.unique(cell[is_other] * len(starts) + destination[is_other])
    cell, destination = np.divmod(pairs, len(starts))
    pair, position = expand_ranges(
        np.searchsorted(cell, which), np.searchsorted(cell, which, side="right")
    )
    return rows[pair], destination[position]


def are_candidates(cells: Ints, margin_order: int, orders: Ints, pixels: Ints) -> NDArray[np.bool_]:
    """Return a mask of the pairs of a cell and a destination that ``find_candidates`` finds too."""
    starts, ends = pixel_ranges(orders, pixels)
    around = cells_and_neighbours(margin_order, cells)
    low, high = pixel_ranges(np.full(around.shape, margin_order), around)
    touches = (around >= 0) & (low < ends[:, None]) & (high > starts[:, None])
    return np.logical_or.reduce(touches, axis=1)


def are_in_margins(
    lon: Floats, lat: Floats, orders: Ints, pixels: Ints, threshold: float
) -> NDArray[np.bool_]:
    """Return a mask of the candidates that are in the margins of their destinations.

    Points are in degrees, the threshold in arcsec; arrays of shape (n,).
    """
    within = is_within(lon, lat, orders, pixels, threshold)
    # A row whose index says that it is beside a pixel may lie inside, far from the boundary.
    beyond = np.flatnonzero(~within)
    inside = pixels_at(MAX_ORDER, lon[beyond], lat[beyond]) >> 2 * (MAX_ORDER - orders[beyond])
    within[beyond] = inside == pixels[beyond]
    return within
