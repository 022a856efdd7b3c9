"""Distances of points and pixels from a pixel, with proven bounds of their errors.

The boundary is replaced by a polygon of chords between points that healpy computes, `steps` of
them along each of the four edges. The points are equidistant in the coordinate t of the edge in its
base face, which runs from 0 to 1 along the face (Gorski et al. 2005, ApJ 622, 759, section 5). A
curve r(t) and the chord between r(t) and r(t + h), taken at equal parameters, are nowhere farther
apart than h**2 / 8 times the maximum of |r''|, so the distances of a point to the curve and to the
polygon differ by no more. Here h = 1 / (nside * steps), and r'' is bounded as follows.

In the caps, with a and b the distances from the two sides of the face that meet at its pole, and
s = a + b <= 1: z = 1 - s**2 / 3, and the longitude p = (pi / 4) * (b - a) / s; the distance from
the axis is q = c * s * sqrt(1 - s**2 / 6), c = sqrt(2 / 3). Along an edge a is constant, and

- z'' = -2 / 3; |q''| = c * s * (1/2 - s**2 / 18) / (1 - s**2 / 6)**1.5 < 1/2;
- p' = (pi / 2) * a / s**2, and p'' = -pi * a / s**3;
- towards the axis |q'' - q * p'**2| <= 1/2 + c * (pi / 2)**2 / s <= 2.52 / s, as a <= s;
- along the circle |q * p'' + 2 * q' * p'| = pi * (a / s**2) * |q' - q / s|
  = pi * (a / s**2) * c * (s**2 / 6) / sqrt(1 - s**2 / 6) < 0.47.

The norm of the three is less than 2.7 / s. On an edge with a > 0, s >= a >= 1 / nside; one with
a = 0 is a meridian with |r''| < 1. At the equator, where z and p are linear in t with |z'| = 2 / 3
and |p'| = pi / 4, |z| <= 2 / 3, so that |r''| < 2. As 1 <= nside, |r''| <= 2.7 * nside on all
edges; no edge runs through both kinds of region. The error is thus at most

    (2.7 / 8) * nside / (nside * steps)**2 = (2.7 / 8) / (nside * steps**2).
"""

from collections.abc import Iterator, Sequence

import healpy
import numpy as np
import numpy.typing as npt

from margin_cache.audit.request import Pixel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STEPS = (16, 128, 1024, 8192)  # chords along an edge: more only for points still undecided
SIEVE_STEPS = (4, 16, 64, 256)  # the same for `near_boundary`
DEVIATION = 2.7 / 8
SQUARE_ROUNDING = 1e-7  # bounds the error of distances from squares that cancel near 1
ROUNDING = 1e-14  # bounds the rounding error of coordinates and their sums
BLOCK_SIZE = 200_000  # pairs of a point and a chord at a time
PIXEL_PAIRS = 1_000_000  # at a time
ANGLE_ERROR = 1e-9  # bounds the rounding error of angles between pixel centres, in radians

WITHIN, UNDECIDED, BEYOND = 1, 0, -1


def compare_distances(
    ra: FloatArray, dec: FloatArray, order: int, pixel: int, threshold: float
) -> tuple[IntArray, FloatArray]:
    """Tell which points (degrees) lie within a threshold (arcsec) of a pixel's boundary.

    Returns:
        WITHIN, BEYOND, or UNDECIDED where the distance is nearer to the threshold than the bound of
        its error; and the distances in arcsec, as exact as this decision needed. Shapes (n,).
    """
    points = _unit_vectors(ra, dec)
    limit = _chord(threshold)
    verdict = np.full(len(points), UNDECIDED, np.int64)
    chords = np.zeros(len(points))
    for steps in STEPS:
        undecided = np.flatnonzero(verdict == UNDECIDED)
        if not undecided.size:
            break
        error = polygon_error(order, steps)
        corners = healpy.boundaries(2**order, pixel, step=steps, nest=True).T
        distances = _distances_to_polygon(points[undecided], corners)
        chords[undecided] = distances
        verdict[undecided[distances + error <= limit]] = WITHIN
        verdict[undecided[distances - error > limit]] = BEYOND
    return verdict, np.degrees(2 * np.arcsin(np.minimum(chords / 2, 1))) * 3600


def near_boundary(
    ra: FloatArray, dec: FloatArray, order: int, pixel: int, threshold: float
) -> npt.NDArray[np.bool_]:
    """Return False for points that are certainly beyond a threshold; fast for many points.

    If a point is within the threshold, the middle of a chord is no farther than the threshold plus
    half a chord plus the error of the polygon. Arguments as in `compare_distances`.
    """
    points = _unit_vectors(ra, dec)
    kept = np.arange(len(points))
    for steps in SIEVE_STEPS:
        corners = healpy.boundaries(2**order, pixel, step=steps, nest=True).T
        ends = np.roll(corners, -1, axis=0)
        half = np.linalg.norm(ends - corners, axis=1).max() / 2
        middles = (corners + ends) / 2
        reach = _chord(threshold) + half + polygon_error(order, steps) + SQUARE_ROUNDING
        size = max(1, BLOCK_SIZE // len(middles))
        blocks = [kept[start : start + size] for start in range(0, len(kept), size)]
        near = [block[_squares(points[block], middles) <= reach**2] for block in blocks]
        kept = np.concatenate([kept[:0], *near])
    is_near = np.zeros(len(points), bool)
    is_near[kept] = True
    return is_near


def polygon_error(order: int, steps: int) -> float:
    """Return a bound of the distance of a pixel's boundary from its polygon of chords."""
    return DEVIATION / (2**order * steps**2) + ROUNDING


def _unit_vectors(ra: FloatArray, dec: FloatArray) -> FloatArray:
    return np.asarray(healpy.ang2vec(ra, dec, lonlat=True), np.float64).reshape(-1, 3)


def _chord(threshold: float) -> float:
    """Return the straight distance of two points on the unit sphere from their angle in arcsec."""
    return float(2 * np.sin(np.radians(threshold / 3600) / 2))


def _squares(points: FloatArray, others: FloatArray) -> FloatArray:
    """Return the squared distance of each unit vector to the nearest of `others`, to some 1e-15."""
    lengths = np.einsum("ij,ij->i", others, others)
    return np.asarray(1 + (lengths - 2 * (points @ others.T)).min(axis=1))


def _distances_to_polygon(points: FloatArray, corners: FloatArray) -> FloatArray:
    """Return the straight distance of each point to the nearest side of a closed polygon."""
    sides = np.roll(corners, -1, axis=0) - corners
    squares = np.einsum("ij,ij->i", sides, sides)
    size = max(1, BLOCK_SIZE // len(corners))
    distances = np.empty(len(points))
    for start in range(0, len(points), size):
        block = slice(start, start + size)
        offsets = points[block, None, :] - corners
        along = np.clip(np.einsum("ijk,jk->ij", offsets, sides) / squares, 0, 1)
        rests = offsets - along[:, :, None] * sides
        distances[block] = np.sqrt(np.einsum("ijk,ijk->ij", rests, rests).min(axis=1))
    return distances


def nearby_partitions(
    pixels: Sequence[Pixel], partitions: Sequence[Pixel], threshold: float
) -> Iterator[tuple[Pixel, list[Pixel]]]:
    """Yield each pixel with the partitions that may have points within a threshold (arcsec) of it.

    Two pixels can be nearer than it only if the circles around them are.
    """
    partition_centres, partition_radii = _circles(partitions)
    size = max(1, PIXEL_PAIRS // max(1, len(partitions)))
    for start in range(0, len(pixels), size):
        block = pixels[start : start + size]
        centres, radii = _circles(block)
        limit = radii[:, None] + partition_radii + np.radians(threshold / 3600) + ANGLE_ERROR
        # Beyond half a turn the cosine would grow again.
        is_near = centres @ partition_centres.T >= np.cos(np.minimum(limit, np.pi)) - ANGLE_ERROR**2
        for pixel, row in zip(block, is_near, strict=True):
            yield pixel, [partitions[position] for position in np.flatnonzero(row).tolist()]


def _circles(pixels: Sequence[Pixel]) -> tuple[FloatArray, FloatArray]:
    """Return the centres, as unit vectors of shape (n, 3), and the radii in radians."""
    orders, numbers = np.array(pixels, np.int64).reshape(-1, 2).T
    centres = np.transpose(healpy.pix2vec(1 << orders, numbers, nest=True))
    radii = np.array([healpy.max_pixrad(1 << order) for order in range(30)])
    return centres, radii[orders]
