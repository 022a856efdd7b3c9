"""Margins of whole catalogs, found by brute force."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from support.oracle.bounds import ARCSEC, SPEED_BOUND, FloatArray, IntArray, Real, RealArray
from support.oracle.distances import PixelEdges, exact_distances, unit_vectors

Margin = tuple[IntArray, IntArray, FloatArray]

AMBIGUOUS_ARCSEC = 2e-6
"""Distances this close to a threshold are not decided, but reported."""

_BLOCK_ELEMENTS = 1 << 21
_SAMPLING_STAGES = (2, 8, 32, 128, 512)
_FLOAT64_PAD = 1e-7  # radians; rounding of arccos(dot product) stays below 3e-8


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
) -> Margin:
    """The margin of one threshold; as ``brute_force_margins``."""
    (margin,) = brute_force_margins(lon, lat, row_partition, partitions, destinations, [threshold])
    return margin


def brute_force_margins(
    lon: FloatArray,
    lat: FloatArray,
    row_partition: IntArray,
    partitions: IntArray,
    destinations: IntArray,
    thresholds: Sequence[float],
) -> list[Margin]:
    """All (row, destination) pairs of margins, found destination by destination.

    lon, lat: degrees, (n,); row_partition: (n,) index into partitions of the
    pixel each row lies in; partitions, destinations: (m, 2) arrays of
    [order, nested pixel], ``destinations[:len(partitions)]`` being the
    partitions; thresholds: arcsec, one for each margin.

    Returns for each margin row indices, destination indices (ordered by row,
    then destination), and the distances (arcsec) of the pairs within
    AMBIGUOUS_ARCSEC of the threshold, whose membership is not to be trusted.

    A row within a threshold is within radius + threshold of the centre of a
    cap around the pixel's boundary.  For the rows in the cap of the largest
    threshold, the distance to the nearest of ever more boundary samples
    brackets the distance to the boundary, which decides most;
    ``exact_distances`` decides the rest.
    """
    if not np.array_equal(destinations[: len(partitions)], partitions):
        raise ValueError("destinations must start with the partitions")
    limits = np.array([float(threshold * ARCSEC) for threshold in thresholds])
    unsorted_points = unit_vectors(lon, lat).T.astype(np.float64)
    by_z = np.argsort(unsorted_points[:, 2], kind="stable")
    points = unsorted_points[by_z]
    found: list[list[tuple[IntArray, int]]] = [[] for _ in thresholds]
    undecided: list[tuple[IntArray, int]] = []
    undecided_for: list[npt.NDArray[np.bool_]] = [np.empty((0, len(limits)), dtype=bool)]

    for index, (order, pixel) in enumerate(destinations):
        outline = boundary_samples(order, pixel, _SAMPLING_STAGES[0]).astype(np.float64)
        centre = outline.sum(axis=1)
        centre /= np.linalg.norm(centre)
        radius = np.arccos(np.clip(centre @ outline, -1, 1)).max()
        reach = radius + half_gap(order, _SAMPLING_STAGES[0]) + limits.max() + _FLOAT64_PAD
        latitude = np.arcsin(np.clip(centre[2], -1, 1))
        band = np.sin(np.clip([latitude - reach, latitude + reach], -np.pi / 2, np.pi / 2))
        first, last = np.searchsorted(points[:, 2], (band[0] - 1e-12, band[1] + 1e-12))
        candidates = first + np.flatnonzero(
            points[first:last] @ centre >= np.cos(min(reach, np.pi)) - 1e-12
        )
        if index < len(partitions):
            candidates = candidates[row_partition[by_z[candidates]] != index]
        # Whether a candidate is still to be decided on, for each threshold.
        is_open = np.ones((len(candidates), len(limits)), dtype=bool)
        for samples_per_edge in _SAMPLING_STAGES:
            samples = boundary_samples(order, pixel, samples_per_edge).astype(np.float64)
            nearest = _nearest_samples(points[candidates], samples)[:, None]
            inside = is_open & (nearest + _FLOAT64_PAD <= limits)
            outside = nearest - half_gap(order, samples_per_edge) - _FLOAT64_PAD > limits
            for pieces, chosen in zip(found, inside.T):
                pieces.append((by_z[candidates[chosen]], index))
            is_open &= ~inside & ~outside
            kept = is_open.any(axis=1)
            candidates, is_open = candidates[kept], is_open[kept]
        undecided.append((by_z[candidates], index))
        undecided_for.append(is_open)

    rows, targets = _joined(undecided)
    distances = exact_distances(
        lon[rows], lat[rows], destinations[targets, 0], destinations[targets, 1]
    )
    margins = []
    for threshold, pieces, chosen in zip(thresholds, found, np.concatenate(undecided_for).T):
        near = chosen & (distances <= threshold)
        ambiguous = distances[chosen & (np.abs(distances - threshold) <= AMBIGUOUS_ARCSEC)]
        sure_rows, sure_targets = _joined(pieces)
        all_rows = np.concatenate((sure_rows, rows[near]))
        all_targets = np.concatenate((sure_targets, targets[near]))
        final = np.lexsort((all_targets, all_rows))
        margins.append((all_rows[final], all_targets[final], ambiguous.astype(np.float64)))
    return margins


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
