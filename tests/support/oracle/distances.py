"""Distances of many points to many pixels, in extended precision, vectorised."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from support.oracle.bounds import (
    ARCSEC,
    BEND_BOUND,
    EDGES,
    FIRST_INTERVALS,
    PI,
    POLAR_BEND_BOUND,
    TOLERANCE_ARCSEC,
    IntArray,
    Real,
    RealArray,
)

_CHUNK_PAIRS = 8192


@dataclass(frozen=True)
class PixelEdges:
    """Edges of pixels in the plane, one array element per edge (long doubles).

    An edge runs from (centre + dx, y) along (slope, 1) * h.
    """

    centre: RealArray
    dx: RealArray
    y: RealArray
    slope: RealArray
    h: RealArray

    @classmethod
    def of_pixels(cls, order: npt.ArrayLike, pixel: npt.ArrayLike) -> "PixelEdges":
        """Edges of n nested pixels, in the order of the pixels: shape (4 n,)."""
        order, pixel = np.broadcast_arrays(
            np.asarray(order, dtype=np.int64), np.asarray(pixel, dtype=np.int64)
        )
        order, pixel = order.reshape(-1, 1), pixel.reshape(-1, 1)
        face = pixel >> (2 * order)
        rest = pixel - (face << (2 * order))
        i, j = np.zeros_like(rest), np.zeros_like(rest)
        for bit in range(30):
            i |= (rest >> (2 * bit) & 1) << bit
            j |= (rest >> (2 * bit + 1) & 1) << bit
        row, column = np.divmod(face, 4)
        h = np.ldexp(Real(1), -order)
        di, dj, slope = np.array(EDGES).T

        def flat(values: npt.NDArray) -> RealArray:
            return np.broadcast_to(values, (pixel.size, 4)).astype(Real).reshape(-1)

        return cls(
            centre=flat(2 * column + np.array([1, 0, 1])[row]),
            dx=flat((i + di - j - dj) * h),
            y=flat((i + di + j + dj) * h - row),
            slope=flat(slope),
            h=flat(h),
        )

    def take(self, index: IntArray) -> "PixelEdges":
        """The edges with the given positions (repeats allowed)."""
        return PixelEdges(
            self.centre[index], self.dx[index], self.y[index], self.slope[index], self.h[index]
        )

    def points(self, s: RealArray | Real) -> RealArray:
        """Unit vectors, shape (3, n), of the n edges at parameters s in [0, 1]."""
        dx = self.dx + self.slope * s * self.h
        y = self.y + s * self.h
        polar = np.abs(y) > 1
        sigma = np.where(polar, 2 - np.abs(y), Real(1))
        away_from_pole = sigma > 0
        dx = np.where(away_from_pole, dx / np.where(away_from_pole, sigma, 1), 0)
        drop = sigma * sigma / 3  # 1 - |z| in the caps
        z = np.where(polar, np.copysign(1 - drop, y), 2 * y / 3)
        rho = np.where(polar, sigma * np.sqrt((2 - drop) / 3), np.sqrt((1 - z) * (1 + z)))
        longitude = (self.centre + dx) * (PI / 4)
        return np.stack((rho * np.cos(longitude), rho * np.sin(longitude), z))

    def is_meridian(self) -> npt.NDArray[np.bool_]:
        """Whether edges are polar and on the border of their face, shape (n,)."""
        on_border = [
            np.abs(self.dx + self.slope * s * self.h) == 2 - np.abs(self.y + s * self.h)
            for s in (0, 1)
        ]
        return (np.abs(self.y + self.h / 2) > 1) & on_border[0] & on_border[1]

    def bend(self) -> RealArray:
        """Upper bounds, shape (n,), of |C''|; zero for meridians.

        This bounds how far a piece of an edge is from the great circle through
        its ends, which is why meridians have none.
        """
        sigma = 2 - np.maximum(np.abs(self.y), np.abs(self.y + self.h))
        meridian = self.is_meridian()
        polar = np.where(sigma < 1, POLAR_BEND_BOUND / np.where(meridian, 1, sigma), 0)
        return np.where(meridian, 0, (BEND_BOUND + polar) * self.h**2)


def unit_vectors(lon_deg: npt.ArrayLike, lat_deg: npt.ArrayLike) -> RealArray:
    """Unit vectors (long double, shape (3, n)) of positions in degrees."""
    lon = np.asarray(lon_deg, dtype=np.float64).astype(Real) * (PI / 180)
    lat = np.asarray(lat_deg, dtype=np.float64).astype(Real) * (PI / 180)
    return np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def _dot(a: RealArray, b: RealArray) -> RealArray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def angles_between(a: RealArray, b: RealArray) -> RealArray:
    """Angles (radians) between unit vectors, accurate from 0 to 180 degrees."""
    difference, total = a - b, a + b
    return 2 * np.arctan2(np.sqrt(_dot(difference, difference)), np.sqrt(_dot(total, total)))


def _arc_distances(
    target: RealArray,
    start: RealArray,
    end: RealArray,
    to_start: RealArray,
    to_end: RealArray,
) -> RealArray:
    """Angles (radians) from points to short great-circle arcs.

    target, start, end: unit vectors (3, n); to_start, to_end: the angles from
    the points to the ends of the arcs (n,).
    """
    middle, along = start + end, end - start
    middle_length, along_length = np.sqrt(_dot(middle, middle)), np.sqrt(_dot(along, along))
    toward_middle = _dot(target, middle) / middle_length
    # As middle . along = 0, this is target . along, but without cancellation.
    toward_end = _dot(target - middle / middle_length, along) / along_length
    normal = np.stack(
        (
            middle[1] * along[2] - middle[2] * along[1],
            middle[2] * along[0] - middle[0] * along[2],
            middle[0] * along[1] - middle[1] * along[0],
        )
    )
    across = np.abs(_dot(target, normal)) / (middle_length * along_length)
    # The tangent of half the arc is along_length / middle_length.
    foot_inside = (toward_middle > 0) & (
        np.abs(toward_end) * middle_length <= toward_middle * along_length
    )
    perpendicular = np.arctan2(across, np.hypot(toward_middle, toward_end))
    return np.where(foot_inside, perpendicular, np.minimum(to_start, to_end))


def _chunk_distances(target: RealArray, order: IntArray, pixel: IntArray) -> RealArray:
    """Distances (radians) of n points (3, n) to the boundaries of n pixels."""
    tolerance = TOLERANCE_ARCSEC * ARCSEC
    edges = PixelEdges.of_pixels(order, pixel)
    # Angle between an edge and the great circle through its ends, per width**2.
    sag = 2.1 * edges.bend() / 8
    width = Real(1) / FIRST_INTERVALS
    all_edges = np.arange(4 * target.shape[1])
    samples = [edges.points(k * width) for k in range(FIRST_INTERVALS + 1)]
    sample_angles = [angles_between(points, target[:, all_edges // 4]) for points in samples]

    edge = np.tile(all_edges, FIRST_INTERVALS)
    left = np.repeat(np.arange(FIRST_INTERVALS) * width, all_edges.size)
    start, end = np.hstack(samples[:-1]), np.hstack(samples[1:])
    to_start, to_end = np.hstack(sample_angles[:-1]), np.hstack(sample_angles[1:])
    best = np.min(sample_angles, axis=0).reshape(-1, 4).min(axis=1)
    result = np.full_like(best, np.inf)

    while True:
        owner = edge // 4
        arc = _arc_distances(target[:, owner], start, end, to_start, to_end)
        error = sag[edge] * width**2
        possible = arc - error <= best[owner]
        done = possible & (error <= tolerance)
        np.minimum.at(result, owner[done], arc[done])
        split = np.flatnonzero(possible & ~done)
        if not split.size:
            return result
        width /= 2
        edge, owner, left = edge[split], owner[split], left[split]
        start, end = start[:, split], end[:, split]
        to_start, to_end = to_start[split], to_end[split]
        middle = edges.take(edge).points(left + width)
        to_middle = angles_between(middle, target[:, owner])
        np.minimum.at(best, owner, to_middle)
        edge, left = np.tile(edge, 2), np.concatenate((left, left + width))
        start, end = np.hstack((start, middle)), np.hstack((middle, end))
        to_start, to_end = (
            np.concatenate((to_start, to_middle)),
            np.concatenate((to_middle, to_end)),
        )


def exact_distances(
    lon_deg: npt.ArrayLike,
    lat_deg: npt.ArrayLike,
    order: npt.ArrayLike,
    pixel: npt.ArrayLike,
) -> RealArray:
    """Angular distances (arcsec, long double, shape (n,)) of points to pixels.

    lon_deg, lat_deg: (n,) degrees; order, pixel: (n,) or scalar, nested.

    Branch and prune: an edge piece between two samples is replaced by the
    great-circle arc between them, from which it deviates by at most
    ``2.1 max|C''| width**2 / 8`` (linear interpolation, then projection on the
    sphere).  By the triangle inequality distances to both differ by no more
    than that, at any separation.  Pieces that cannot hold the minimum are
    dropped, the others halved until the deviation is below TOLERANCE_ARCSEC.
    Rounding adds less than 1e-8 arcsec.
    """
    target = unit_vectors(lon_deg, lat_deg)
    count = target.shape[1]
    order = np.broadcast_to(np.asarray(order, dtype=np.int64), count)
    pixel = np.broadcast_to(np.asarray(pixel, dtype=np.int64), count)
    result = np.empty(count, dtype=Real)
    for first in range(0, count, _CHUNK_PAIRS):
        chunk = slice(first, first + _CHUNK_PAIRS)
        result[chunk] = _chunk_distances(target[:, chunk], order[chunk], pixel[chunk])
    return result / ARCSEC
