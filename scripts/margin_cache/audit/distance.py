"""Which points are within a threshold of a pixel's boundary, by a polygon with a proven error.

Along an edge, u from 0 to 1, a pixel's side is smooth, and its second derivative is at most
8.4 / sigma / nside**2, where sigma >= 1 / nside is the distance from the pole in the units of a
face's side; around the equator it is less than that. A chord of 1 / steps of an edge is therefore
nowhere farther than 8.4 / 8 / (nside * steps**2) from the side, on the unit sphere.
"""

import healpy
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STEPS = (16, 128, 1024, 8192)  # along an edge: the next only for points still undecided
DEVIATION = 8.4 / 8
ROUNDING = 1e-14  # of coordinates and sums, with room to spare
BLOCK = 2_000_000  # pairs of a point and a chord at a time

INSIDE, UNDECIDED, OUTSIDE = 1, 0, -1


def judge_distances(
    ra: FloatArray, dec: FloatArray, order: int, pixel: int, threshold: float
) -> tuple[IntArray, FloatArray]:
    """Judge whether points lie within a threshold of a pixel's boundary.

    Args:
        ra: Right ascensions of points, in degrees; shape (n,).
        dec: Their declinations.
        order: Order of the pixel.
        pixel: Its nested number.
        threshold: Arcsec.

    Returns:
        INSIDE, OUTSIDE, or UNDECIDED where the bound of the error does not tell; and the distances
        in arcsec, as good as the judgement needed.
    """
    points = np.asarray(healpy.ang2vec(ra, dec, lonlat=True), np.float64).reshape(-1, 3)
    limit = 2 * np.sin(np.radians(threshold / 3600) / 2)
    verdict = np.full(len(points), UNDECIDED, np.int64)
    chords = np.zeros(len(points))
    for steps in STEPS:
        left = np.flatnonzero(verdict == UNDECIDED)
        if not left.size:
            break
        error = DEVIATION / (2**order * steps**2) + ROUNDING
        corners = healpy.boundaries(2**order, pixel, step=steps, nest=True).T
        found = _distances_to_polygon(points[left], corners)
        chords[left] = found
        verdict[left[found + error <= limit]] = INSIDE
        verdict[left[found - error > limit]] = OUTSIDE
    return verdict, np.degrees(2 * np.arcsin(np.minimum(chords / 2, 1))) * 3600


def _distances_to_polygon(points: FloatArray, corners: FloatArray) -> FloatArray:
    """Smallest straight distance of each point to the sides of a closed polygon; shape (n,)."""
    sides = np.roll(corners, -1, axis=0) - corners
    squares = np.einsum("ij,ij->i", sides, sides)
    rows = max(1, BLOCK // len(corners))
    found = [
        _nearest(points[start : start + rows], corners, sides, squares)
        for start in range(0, len(points), rows)
    ]
    return np.concatenate(found)


def _nearest(
    points: FloatArray, corners: FloatArray, sides: FloatArray, squares: FloatArray
) -> FloatArray:
    offsets = points[:, None, :] - corners
    along = np.clip(np.einsum("ijk,jk->ij", offsets, sides) / squares, 0, 1)
    rests = offsets - along[:, :, None] * sides
    return np.asarray(np.sqrt(np.einsum("ijk,ijk->ij", rests, rests).min(axis=1)))
