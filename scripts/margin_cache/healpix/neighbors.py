"""Pixels on the sky, by hpgeom: which ones touch, where they are, and which one a point is in."""

import hpgeom
import numpy as np
from numpy.typing import NDArray

from margin_cache.healpix.nested import MAX_ORDER, Ints


def cells_and_neighbours(order: int, cells: Ints) -> Ints:
    """Return each of n cells, in nested numbers, with the up to eight cells that touch it.

    Returns:
        int64 array of shape (n, 9); the cell itself first, -1 where there is no neighbour (eight
        vertices of the sphere have only seven pixels around them).
    """
    around = hpgeom.neighbors(2**order, cells, nest=True)
    return np.concatenate([cells[:, None], around.reshape(len(cells), 8)], axis=1)


def centres(
    orders: NDArray[np.integer], pixels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitude and latitude of the centres of pixels, in degrees, each of shape (n,)."""
    nside = np.int64(1) << np.asarray(orders, dtype=np.int64)
    return hpgeom.pixel_to_angle(nside, np.asarray(pixels, dtype=np.int64), nest=True, lonlat=True)


def pixels_at(order: int, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Ints:
    """Return the nested numbers of the pixels that contain points, all of shape (n,).

    Points are in degrees; longitudes may be of any turn.
    """
    return hpgeom.angle_to_pixel(2**order, lon % 360, lat, nest=True, lonlat=True)


def are_inside(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    order: Ints,
    pixel: Ints,
) -> NDArray[np.bool_]:
    """Return a mask of the points that are inside their pixels; near a border, up to rounding.

    Points are in degrees, numbers nested; all of shape (n,).
    """
    return pixels_at(MAX_ORDER, lon, lat) >> 2 * (MAX_ORDER - order) == pixel
