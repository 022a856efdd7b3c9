"""Which points are within a threshold of a pixel's boundary, by a polygon with a proven error.

The boundary is a polygon of chords between points that healpy computes, `steps` of them along each
of the four edges. The points are equidistant in the coordinate t of the edge in its base face,
which runs from 0 to 1 along the face (Gorski et al. 2005, ApJ 622, 759, section 5). A curve r(t)
and the chord between r(t) and r(t + h), taken at equal parameters, are nowhere farther apart than
h**2 / 8 times the maximum of |r''|; so no distance to the polygon differs by more from that to the
curve. Here h = 1 / (nside * steps), and r'' is bounded as follows.

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

import healpy
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STEPS = (16, 128, 1024, 8192)  # along an edge: the next only for points still undecided
DEVIATION = 2.7 / 8
SIEVES = (16, 64, 256)  # along an edge, as STEPS
SLACK = 1e-7  # of distances whose squares are differences of numbers near 1
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
        error = polygon_error(order, steps)
        corners = healpy.boundaries(2**order, pixel, step=steps, nest=True).T
        found = _distances_to_polygon(points[left], corners)
        chords[left] = found
        verdict[left[found + error <= limit]] = INSIDE
        verdict[left[found - error > limit]] = OUTSIDE
    return verdict, np.degrees(2 * np.arcsin(np.minimum(chords / 2, 1))) * 3600


def near_boundary(
    ra: FloatArray, dec: FloatArray, order: int, pixel: int, threshold: float
) -> npt.NDArray[np.bool_]:
    """Tell which points may be within a threshold of a pixel's boundary; fast for many points.

    A point that is has a chord's middle no farther than the threshold, half a chord and the error
    of the polygon.

    Args:
        ra: Right ascensions of points, in degrees; shape (n,).
        dec: Their declinations.
        order: Order of the pixel.
        pixel: Its nested number.
        threshold: Arcsec.

    Returns:
        False only for points that are farther; shape (n,).
    """
    points = np.asarray(healpy.ang2vec(ra, dec, lonlat=True), np.float64).reshape(-1, 3)
    limit = 2 * np.sin(np.radians(threshold / 3600) / 2)
    left = np.arange(len(points))
    for steps in SIEVES:
        corners = healpy.boundaries(2**order, pixel, step=steps, nest=True).T
        ends = np.roll(corners, -1, axis=0)
        half = np.linalg.norm(ends - corners, axis=1).max() / 2
        middles = (corners + ends) / 2
        reach = limit + half + polygon_error(order, steps) + SLACK
        rows = max(1, BLOCK // len(middles))
        left = np.concatenate(
            [left[:0]]
            + [
                some[_squares(points[some], middles) <= reach**2]
                for some in (left[at : at + rows] for at in range(0, len(left), rows))
            ]
        )
    near = np.zeros(len(points), bool)
    near[left] = True
    return near


def polygon_error(order: int, steps: int) -> float:
    """Return how far a boundary is at most from its polygon, on the unit sphere.

    Args:
        order: Order of the pixel.
        steps: Chords along each edge.
    """
    return DEVIATION / (2**order * steps**2) + ROUNDING


def _squares(points: FloatArray, others: FloatArray) -> FloatArray:
    """The squared distance of each point of a sphere to the nearest of others, to some 1e-15."""
    lengths = np.einsum("ij,ij->i", others, others)
    return np.asarray(1 + (lengths - 2 * (points @ others.T)).min(axis=1))


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
