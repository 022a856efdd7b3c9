"""Reference answers for the tests, computed from the definition of HEALPix.

Nothing here is shared with the library under test, and nothing here calls a
HEALPix package.  Speed is secondary: every answer comes with a proven bound.

The projection
--------------
Gorski et al. 2005 (ApJ 622, 759) and Calabretta & Roukema 2007 (MNRAS 381,
865; H = 4, K = 3).  With plane coordinates (x, y) in units of pi/4:

* ``|y| <= 1`` (equatorial):  ``longitude = x``,  ``sin(latitude) = 2 y / 3``;
* ``|y| > 1`` (polar):  ``sigma = 2 - |y|``,
  ``|sin(latitude)| = 1 - sigma**2 / 3``,
  ``longitude = centre + (x - centre) / sigma``,
  where ``centre`` is the x of the centre of the base pixel (face).

Face ``f`` is the square standing on its corner with half diagonal 1 around
``y = 1, 0, -1`` for ``f // 4 = 0, 1, 2`` and ``x = 2 (f % 4) + (1, 0, 1)``.
The nested number interleaves two coordinates: ``i`` (even bits) grows towards
(+x, +y), ``j`` (odd bits) towards (-x, +y).  So every pixel edge is a straight
piece of the plane with direction (+1, +1) or (-1, +1), and since the corners
of all pixels with ``|y| = 1`` lie on that line, no edge crosses it: each edge
is one analytic curve.

Bounds used
-----------
Let ``C(s)``, ``0 <= s <= 1``, be an edge as unit vector and ``h = 1 / nside``.
Differentiating the formulas above gives

* ``|C'| <= 1.53 h`` everywhere;
* ``|C''| <= 2 h**2`` for equatorial edges and
  ``|C''| <= h**2 (2 + 2.1 / sigma_min)`` for polar edges.

Polar edges on the border of a face (``|x - centre| = sigma``) are meridians.
These are great circles, the only edges that can be equally far from a point
everywhere, and get a closed formula; only they reach the pole
(``sigma_min = 0``).  ``test_distance.py`` checks both bounds by finite
differences.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from mpmath import mp, mpf

Real = np.longdouble
RealArray = npt.NDArray[np.longdouble]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MpVector = tuple[mpf, mpf, mpf]

AMBIGUOUS_ARCSEC = 2e-6
"""Distances this close to a threshold are not decided, but reported."""

TOLERANCE_ARCSEC = 1e-10
"""Proven error (apart from rounding) of the distances computed here."""

SPEED_BOUND = 1.53
BEND_BOUND = 2.0
POLAR_BEND_BOUND = 2.1

PI = Real("3.14159265358979323846264338327950288")
ARCSEC = PI / (180 * 3600)

# Start corner (i, j) within the pixel and x direction of its four edges.
EDGES = ((0, 0, 1), (0, 1, 1), (0, 0, -1), (1, 0, -1))

_FIRST_INTERVALS = 8
_CHUNK_PAIRS = 8192
_BLOCK_ELEMENTS = 1 << 21
_SAMPLING_STAGES = (2, 8, 32, 128, 512)
_FLOAT64_PAD = 1e-7  # radians; rounding of arccos(dot product) stays below 3e-8


# ---------------------------------------------------------------------------
# One point, one pixel: mpmath
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _MpEdge:
    """One pixel edge in the plane: (centre + dx + slope s h, y + s h)."""

    centre: int
    dx: mpf
    y: mpf
    slope: int
    h: mpf

    def point(self, s: mpf) -> MpVector:
        """Unit vector of the edge at parameter s in [0, 1]."""
        dx = self.dx + self.slope * s * self.h
        y = self.y + s * self.h
        if abs(y) <= 1:
            z = 2 * y / 3
        else:
            sigma = 2 - abs(y)
            z = mp.sign(y) * (1 - sigma**2 / 3)
            dx = dx / sigma if sigma else mpf(0)
        cosine, sine = mp.cos_sin((self.centre + dx) * mp.pi / 4)
        rho = mp.sqrt((1 - z) * (1 + z))
        return rho * cosine, rho * sine, z

    def is_meridian(self) -> bool:
        """Whether the edge is polar and on the border of its face."""
        return abs(self.y + self.h / 2) > 1 and all(
            abs(self.dx + self.slope * s * self.h) == 2 - abs(self.y + s * self.h) for s in (0, 1)
        )

    def bend(self) -> mpf:
        """Upper bound of |C''| of an edge that is no meridian."""
        far_y = max(abs(self.y), abs(self.y + self.h))
        polar = POLAR_BEND_BOUND / (2 - far_y) if far_y > 1 else 0
        return (BEND_BOUND + polar) * self.h**2

    def foot_on_meridian(self, target: MpVector) -> MpVector | None:
        """Foot of the perpendicular from target on a meridian edge, if on the edge."""
        side = 1 if self.dx + self.slope * self.h / 2 > 0 else -1
        cosine, sine = mp.cos_sin((self.centre + side) * mp.pi / 4)
        latitude = mp.atan2(target[2], target[0] * cosine + target[1] * sine)
        south, north = (mp.asin(self.point(mpf(s))[2]) for s in (0, 1))
        if not south <= latitude <= north:
            return None
        return mp.cos(latitude) * cosine, mp.cos(latitude) * sine, mp.sin(latitude)


def _mp_edges(order: int, pixel: int) -> list[_MpEdge]:
    """The four edges of a nested pixel."""
    face, rest = divmod(pixel, 4**order)
    i = sum((rest >> (2 * bit) & 1) << bit for bit in range(order))
    j = sum((rest >> (2 * bit + 1) & 1) << bit for bit in range(order))
    row, column = divmod(face, 4)
    h = mpf(1) / 2**order
    return [
        _MpEdge(
            centre=2 * column + (1, 0, 1)[row],
            dx=(i + di - j - dj) * h,
            y=(i + di + j + dj) * h - row,
            slope=slope,
            h=h,
        )
        for di, dj, slope in EDGES
    ]


def exact_distance(lon_deg: float, lat_deg: float, order: int, pixel: int) -> float:
    """Angular distance (arcsec) from one point to the boundary of one pixel.

    The doubles ``lon_deg`` and ``lat_deg`` (degrees) are taken as exact.

    Branch and prune with 60 digits.  The squared chord ``f(s) = |C - P|**2`` has
    ``f'' = 2 |C'|**2 + 2 (C - P).C'' = -2 |C'|**2 - 2 (C + P).C''``, so on an
    interval of length ``d`` f is nowhere below the smaller end value minus
    ``max|f''| d**2 / 8``.  Intervals which therefore cannot hold the global
    minimum are dropped, the others halved, until the gap between the best
    value found and the proven lower bound is below TOLERANCE_ARCSEC.
    """
    with mp.workdps(60):
        degree = mp.pi / 180
        cos_lon, sin_lon = mp.cos_sin(mpf(float(lon_deg)) * degree)
        cos_lat, sin_lat = mp.cos_sin(mpf(float(lat_deg)) * degree)
        target = (cos_lat * cos_lon, cos_lat * sin_lon, sin_lat)
        tolerance = mpf(TOLERANCE_ARCSEC) * degree / 3600

        def squared_chord(point: MpVector) -> mpf:
            return sum((c - p) ** 2 for c, p in zip(point, target))

        def angle(squared: mpf) -> mpf:
            return 2 * mp.asin(mp.sqrt(min(max(squared, mpf(0)), mpf(4))) / 2)

        width = mpf(1) / _FIRST_INTERVALS
        intervals = []  # (edge, |C''| bound, start, f(start), f(end))
        best = mpf(4)
        for edge in _mp_edges(int(order), int(pixel)):
            if edge.is_meridian():
                foot = edge.foot_on_meridian(target)
                nearest = [edge.point(mpf(0)), edge.point(mpf(1))] + ([foot] if foot else [])
                best = min(best, *(squared_chord(point) for point in nearest))
                continue
            values = [squared_chord(edge.point(k * width)) for k in range(_FIRST_INTERVALS + 1)]
            best = min(best, *values)
            for k in range(_FIRST_INTERVALS):
                intervals.append((edge, edge.bend(), k * width, values[k], values[k + 1]))

        while True:
            kept = []
            floor = best
            for edge, bend, start, at_start, at_end in intervals:
                speed = SPEED_BOUND * edge.h
                reach = mp.sqrt(min(at_start, abs(4 - at_start))) + speed * width
                drop = 2 * (speed**2 + reach * bend) * width**2 / 8
                lowest = min(at_start, at_end) - drop
                if lowest <= best:
                    kept.append((edge, bend, start, at_start, at_end))
                    floor = min(floor, lowest)
            if angle(best) - angle(floor) <= tolerance:
                return float(angle(best) / degree * 3600)
            width /= 2
            intervals = []
            for edge, bend, start, at_start, at_end in kept:
                at_middle = squared_chord(edge.point(start + width))
                best = min(best, at_middle)
                intervals.append((edge, bend, start, at_start, at_middle))
                intervals.append((edge, bend, start + width, at_middle, at_end))


# ---------------------------------------------------------------------------
# Many pairs: extended precision, vectorised
# ---------------------------------------------------------------------------


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
    width = Real(1) / _FIRST_INTERVALS
    all_edges = np.arange(4 * target.shape[1])
    samples = [edges.points(k * width) for k in range(_FIRST_INTERVALS + 1)]
    sample_angles = [angles_between(points, target[:, all_edges // 4]) for points in samples]

    edge = np.tile(all_edges, _FIRST_INTERVALS)
    left = np.repeat(np.arange(_FIRST_INTERVALS) * width, all_edges.size)
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


# ---------------------------------------------------------------------------
# Whole catalogues
# ---------------------------------------------------------------------------


def boundary_samples(order: int, pixel: int, samples_per_edge: int) -> RealArray:
    """Boundary points of one pixel: unit vectors, shape (3, 4 samples_per_edge + 4).

    Every boundary point is within ``half_gap(order, samples_per_edge)`` of one.
    """
    edges = PixelEdges.of_pixels(order, pixel)
    steps = np.arange(samples_per_edge + 1).astype(Real) / samples_per_edge
    index = np.repeat(np.arange(4), steps.size)
    return edges.take(index).points(np.tile(steps, 4))


def half_gap(order: int, samples_per_edge: int) -> float:
    """Upper bound (radians) of half the curve length between two samples."""
    return SPEED_BOUND / 2**order / samples_per_edge / 2


def _nearest_samples(points: FloatArray, samples: FloatArray) -> FloatArray:
    """Angle (radians) from each point (n, 3) to the nearest of samples (3, m)."""
    cosines = np.empty(len(points))
    rows = max(1, _BLOCK_ELEMENTS // samples.shape[1])
    for first in range(0, len(points), rows):
        block = slice(first, first + rows)
        cosines[block] = (points[block] @ samples).max(axis=1)
    return np.arccos(np.clip(cosines, -1, 1))


def brute_force_margin(
    lon: FloatArray,
    lat: FloatArray,
    row_partition: IntArray,
    partitions: IntArray,
    destinations: IntArray,
    threshold: float,
) -> tuple[IntArray, IntArray, FloatArray]:
    """All (row, destination) pairs of a margin, found destination by destination.

    lon, lat: degrees, (n,); row_partition: (n,) index into partitions of the
    pixel each row lies in; partitions, destinations: (m, 2) arrays of
    [order, nested pixel], ``destinations[:len(partitions)]`` being the
    partitions; threshold: arcsec.

    Returns row indices, destination indices (ordered by row, then
    destination), and the distances (arcsec) of the pairs within
    AMBIGUOUS_ARCSEC of the threshold, whose membership is not to be trusted.

    A row within the threshold is within radius + threshold of the centre of a
    cap around the pixel's boundary.  For those rows, the distance to the
    nearest of ever more boundary samples brackets the distance to the
    boundary, which decides most; ``exact_distances`` decides the rest.
    """
    if not np.array_equal(destinations[: len(partitions)], partitions):
        raise ValueError("destinations must start with the partitions")
    limit = float(threshold * ARCSEC)
    unsorted_points = unit_vectors(lon, lat).T.astype(np.float64)
    by_z = np.argsort(unsorted_points[:, 2], kind="stable")
    points = unsorted_points[by_z]
    found: list[tuple[IntArray, int]] = []
    undecided: list[tuple[IntArray, int]] = []

    for index, (order, pixel) in enumerate(destinations):
        outline = boundary_samples(order, pixel, _SAMPLING_STAGES[0]).astype(np.float64)
        centre = outline.sum(axis=1)
        centre /= np.linalg.norm(centre)
        radius = np.arccos(np.clip(centre @ outline, -1, 1)).max()
        reach = radius + half_gap(order, _SAMPLING_STAGES[0]) + limit + _FLOAT64_PAD
        latitude = np.arcsin(np.clip(centre[2], -1, 1))
        band = np.sin(np.clip([latitude - reach, latitude + reach], -np.pi / 2, np.pi / 2))
        first, last = np.searchsorted(points[:, 2], (band[0] - 1e-12, band[1] + 1e-12))
        candidates = first + np.flatnonzero(
            points[first:last] @ centre >= np.cos(min(reach, np.pi)) - 1e-12
        )
        if index < len(partitions):
            candidates = candidates[row_partition[by_z[candidates]] != index]
        for samples_per_edge in _SAMPLING_STAGES:
            samples = boundary_samples(order, pixel, samples_per_edge).astype(np.float64)
            nearest = _nearest_samples(points[candidates], samples)
            inside = nearest + _FLOAT64_PAD <= limit
            outside = nearest - half_gap(order, samples_per_edge) - _FLOAT64_PAD > limit
            found.append((by_z[candidates[inside]], index))
            candidates = candidates[~inside & ~outside]
        undecided.append((by_z[candidates], index))

    rows, targets = _joined(undecided)
    distances = exact_distances(
        lon[rows], lat[rows], destinations[targets, 0], destinations[targets, 1]
    )
    near = distances <= threshold
    ambiguous = distances[np.abs(distances - threshold) <= AMBIGUOUS_ARCSEC]
    sure_rows, sure_targets = _joined(found)
    rows = np.concatenate((sure_rows, rows[near]))
    targets = np.concatenate((sure_targets, targets[near]))
    final = np.lexsort((targets, rows))
    return rows[final], targets[final], ambiguous.astype(np.float64)


def _joined(pieces: list[tuple[IntArray, int]]) -> tuple[IntArray, IntArray]:
    """Row indices and destination indices of (rows, destination) pieces."""
    if not pieces:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    rows = np.concatenate([piece for piece, _ in pieces])
    targets = np.concatenate([np.full(piece.size, index) for piece, index in pieces])
    return rows.astype(np.int64), targets.astype(np.int64)


def negative_pixels(partitions: IntArray) -> IntArray:
    """The largest pixels that cover the sky outside the partitions.

    partitions: (n, 2) array of disjoint [order, nested pixel].  Returns an
    (m, 2) array in the order of the sky along the nested curve.
    """
    taken = {(int(order), int(pixel)) for order, pixel in partitions}
    holding = {
        (order - up, pixel >> (2 * up)) for order, pixel in taken for up in range(1, order + 1)
    }

    def empty_below(order: int, pixel: int) -> Iterator[tuple[int, int]]:
        if (order, pixel) in taken:
            return
        if (order, pixel) not in holding:
            yield order, pixel
            return
        for child in range(4 * pixel, 4 * pixel + 4):
            yield from empty_below(order + 1, child)

    pixels = [empty for face in range(12) for empty in empty_below(0, face)]
    return np.array(pixels, dtype=np.int64).reshape(-1, 2)
