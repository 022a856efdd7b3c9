"""Positions on the sky, HEALPix pixels and partitionings, to make skies of.

Everything here is a pure function of its arguments; what is random takes a generator.

Conventions, here and in the other modules of skies: right ascension `ra` and declination `dec` are
in degrees; pixels are HEALPix pixels in nested numbering; a partitioning is an int64 array of shape
(n, 2) whose rows are [order, pixel], disjoint and in nested order, which is the order of
`_hipscat_index`.
"""

from __future__ import annotations

import hpgeom
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

INDEX_ORDER = 19
ARCSEC = np.pi / 180.0 / 3600.0


# --- pixels and partitionings ---------------------------------------------------------------


def nested_pixels(ra: FloatArray, dec: FloatArray, order: int = INDEX_ORDER) -> IntArray:
    """Nested pixel of each position.

    Args:
        ra, dec: positions [deg], shape (n,).
        order: HEALPix order of the pixels.
    Returns:
        pixels, shape (n,).
    """
    return np.asarray(hpgeom.angle_to_pixel(1 << order, ra, dec, nest=True), dtype=np.int64)


def pixel_spans(partitions: IntArray, order: int = INDEX_ORDER) -> tuple[IntArray, IntArray]:
    """First and one-past-last pixel at `order` inside each partition.

    Args:
        partitions: [order, pixel], shape (n, 2), none deeper than `order`.
    Returns:
        starts and stops, each of shape (n,).
    """
    shift = 2 * (order - partitions[:, 0])
    return partitions[:, 1] << shift, (partitions[:, 1] + 1) << shift


def nested_sort(partitions: IntArray) -> IntArray:
    """The same partitions, in nested order; shape (n, 2)."""
    return partitions[np.argsort(pixel_spans(partitions)[0], kind="stable")]


def pixel_keys(partitions: IntArray) -> IntArray:
    """One integer per [order, pixel], distinct across orders; shape (n,)."""
    return partitions[:, 1] + (4 << 2 * partitions[:, 0])


def inside(pixels: IntArray, partitions: IntArray) -> npt.NDArray[np.bool_]:
    """Whether order-19 `pixels`, shape (n,), lie in one of the partitions; shape (n,)."""
    starts, stops = pixel_spans(partitions)
    at = np.searchsorted(starts, pixels, side="right") - 1
    return (at >= 0) & (pixels < stops[at])


def adaptive_partitions(
    ra: FloatArray, dec: FloatArray, *, max_rows: int, min_order: int = 0, max_order: int = 9
) -> IntArray:
    """Partition a sky as hipscat does: the coarsest pixels that hold at most `max_rows` rows.

    Args:
        ra, dec: positions [deg], shape (n,).
        max_rows: most rows a partition may hold.
        min_order, max_order: coarsest and finest order allowed.
    Returns:
        partitions with at least one row each, in nested order, shape (m, 2).
    Raises:
        ValueError: if a pixel of `max_order` holds more than `max_rows` rows.
    """
    pixels, rows = np.unique(nested_pixels(ra, dec, max_order), return_counts=True)
    if rows.size and rows.max() > max_rows:
        raise ValueError(f"a pixel of order {max_order} holds {rows.max()} rows (> {max_rows})")
    leaves = []
    for order in range(min_order, max_order + 1):
        parents, inverse = np.unique(pixels >> 2 * (max_order - order), return_inverse=True)
        fits = np.bincount(inverse, weights=rows, minlength=parents.size) <= max_rows
        leaves.append(np.column_stack([np.full(fits.sum(), order), parents[fits]]))
        keep = ~fits[inverse]
        pixels, rows = pixels[keep], rows[keep]
    return nested_sort(np.concatenate(leaves).astype(np.int64))


def refined_partitions(targets: IntArray) -> IntArray:
    """The coarsest partitioning of the whole sphere in which no partition contains a target
    pixel without being it, or being inside it.

    Args:
        targets: [order, pixel], shape (n, 2), in any order; they may contain one another.
    Returns:
        partitions that cover the sphere, in nested order, shape (m, 2).
    """
    level, leaves = np.arange(12, dtype=np.int64), []
    for order in range(int(targets[:, 0].max()) + 1):
        deeper = targets[targets[:, 0] > order]
        split = np.isin(level, deeper[:, 1] >> 2 * (deeper[:, 0] - order))
        leaves.append(np.column_stack([np.full((~split).sum(), order), level[~split]]))
        level = (4 * level[split][:, None] + np.arange(4)).ravel()
    return nested_sort(np.concatenate(leaves))


def row_bounds(pixels: IntArray, partitions: IntArray) -> tuple[IntArray, IntArray]:
    """Rows [start, stop) of each partition among sorted order-19 pixels; all rows must fit."""
    starts, stops = pixel_spans(partitions)
    if np.any(starts[1:] < stops[:-1]):
        raise ValueError("partitions overlap or are not in nested order")
    first, last = np.searchsorted(pixels, starts), np.searchsorted(pixels, stops)
    outside = pixels.size - int((last - first).sum())
    if outside:
        raise ValueError(f"{outside} rows fall outside all partitions")
    return first, last


# --- geometry -------------------------------------------------------------------------------


def uniform_sky(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """Positions uniform on the sphere: ra and dec [deg], each of shape (n,)."""
    return rng.uniform(0.0, 360.0, n), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))


def vectors_from_sky(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Unit vectors, shape (n, 3), of positions [deg], shape (n,)."""
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def sky_from_vectors(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positions ra in [0, 360) and dec [deg], shape (n,), of vectors of shape (n, 3)."""
    x, y, z = vectors.T
    ra = np.degrees(np.arctan2(y, x)) % 360.0
    # A tiny negative angle is 360.0 after the modulo.
    return np.where(ra < 360.0, ra, 0.0), np.degrees(np.arctan2(z, np.hypot(x, y)))


def tangent_vectors(vectors: FloatArray, angles: FloatArray) -> FloatArray:
    """Unit vectors perpendicular to `vectors`.

    Args:
        vectors: unit vectors, shape (n, 3).
        angles: position angles [rad] from an arbitrary zero, shape (n,).
    Returns:
        tangents, shape (n, 3).
    """
    # Any axis does that is not nearly parallel: the one with the smallest component.
    axes = np.eye(3)[np.argmin(np.abs(vectors), axis=1)]
    east = np.cross(axes, vectors)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    north = np.cross(vectors, east)
    return np.cos(angles)[:, None] * east + np.sin(angles)[:, None] * north


def offset_positions(
    ra: FloatArray, dec: FloatArray, distance: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Positions at a great-circle `distance` [rad] from others, in random directions.

    Args:
        ra, dec, distance: shape (n,); positions in degrees.
    Returns:
        ra and dec [deg], each of shape (n,).
    """
    vectors = vectors_from_sky(ra, dec)
    tangents = tangent_vectors(vectors, rng.uniform(0.0, 2.0 * np.pi, ra.size))
    moved = np.cos(distance)[:, None] * vectors + np.sin(distance)[:, None] * tangents
    return sky_from_vectors(moved)


def _every_other_bit(values: IntArray) -> IntArray:
    """Bits 0, 2, 4, ... of non-negative integers, packed together."""
    packed = values & 0x5555555555555555
    for shift, mask in (
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    ):
        packed = (packed | packed >> shift) & mask
    return packed


def pixel_positions(
    partitions: IntArray, u: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Positions at fractions (u, v) of pixels; (0, 0) is the southern corner, (1, 1) the northern.

    This is the HEALPix projection (Gorski et al. 2005) over continuous coordinates of a base
    face, so that points on a border are as exact as doubles are, which those of a finer
    pixelisation's centres would not be.

    Args:
        partitions: [order, pixel], shape (n, 2).
        u, v: fractions in [0, 1] along the north-east and north-west edges, shape (n,).
    Returns:
        ra and dec [deg], each of shape (n,).
    """
    order, pixel = partitions.T
    face, inside = pixel >> 2 * order, pixel & ((1 << 2 * order) - 1)
    x = (_every_other_bit(inside) + u) / (1 << order)
    y = (_every_other_bit(inside >> 1) + v) / (1 << order)
    ring = face // 4 + 2 - x - y  # 0 at the north pole, 1 and 3 at |z| = 2/3, 4 at the south pole
    cap = np.minimum(np.minimum(ring, 4.0 - ring), 1.0)
    height = np.where(ring < 2.0, 1.0, -1.0) * (1.0 - cap**2 / 3.0)
    z = np.where(cap < 1.0, height, (2.0 - ring) * 2.0 / 3.0)
    # In the caps 1 - z is known better than z: near a pole this keeps dec exact.
    cosine = np.where(cap < 1.0, cap * np.sqrt((2.0 - cap**2 / 3.0) / 3.0), np.sqrt(1.0 - z**2))
    # Face centres lie at multiples of 45 deg: odd ones in the caps, even ones on the equator.
    centre = 2 * (face % 4) + (face // 4 != 1)
    ra = 45.0 * (centre + (x - y) / np.where(cap > 0.0, cap, 1.0))
    return ra % 360.0, np.degrees(np.arctan2(z, cosine))
