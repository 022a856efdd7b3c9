"""Finds the pairs of pixels that are within a threshold of each other."""

import numpy as np
from numpy.typing import NDArray

from margin_cache.healpix.boundary import distance_to_pixel
from margin_cache.healpix.neighbors import cells_and_neighbours, centres
from margin_cache.healpix.nested import (
    ARCSEC_PER_RADIAN,
    Ints,
    expand_ranges,
    pixel_ranges,
    resolution,
)
from margin_cache.healpix.sides import Floats

_CIRCUMRADIUS = 1.11
"""No point of a pixel is farther from its centre than this times the resolution of its order."""


def pixels_within(
    sources: tuple[Ints, Ints], destinations: tuple[Ints, Ints], threshold: float, finest: int
) -> tuple[Ints, Ints]:
    """Return the pairs of pixels of which one can hold rows in the margin of the other.

    Two disjoint pixels whose distance is at most the threshold touch, if the cells of the finer
    one's order are nowhere thinner than the threshold. Then the coarser one contains a neighbour of
    the finer one. Pairs with a pixel finer than that are found by the neighbours of the cell that
    contains it, and then selected by distance, which keeps a few too many.

    Args:
        sources: orders and numbers of disjoint pixels in nested order, each of shape (s,).
        destinations: the same, of shape (d,).
        threshold: angular distance in arcsec; infinite for all pairs with cells that touch.
        finest: finest order of the cells, which are nowhere thinner than a finite threshold.

    Returns:
        Indices of sources and of destinations, of equal length, each pair once.
    """
    forward = _overlapping(sources, destinations, finest)
    backward = _overlapping(destinations, sources, finest)
    # Take each pair from its finer pixel; from the source if both have the same order, or
    # if the source is finer than the cells.
    source_orders, destination_orders = sources[0], destinations[0]
    from_source = (destination_orders[forward[1]] <= source_orders[forward[0]]) | (
        source_orders[forward[0]] > finest
    )
    from_destination = source_orders[backward[1]] < destination_orders[backward[0]]
    count = len(destination_orders)
    forward_pairs = forward[0][from_source] * count + forward[1][from_source]
    backward_pairs = backward[1][from_destination] * count + backward[0][from_destination]
    source, destination = np.divmod(np.union1d(forward_pairs, backward_pairs), count)
    near = _are_near(
        (sources[0][source], sources[1][source]),
        (destinations[0][destination], destinations[1][destination]),
        threshold,
        finest,
    )
    return source[near], destination[near]


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
        rows, columns = np.nonzero(cells >= 0)
        low, high = pixel_ranges(np.full(len(rows), cell_order), cells[rows, columns])
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
