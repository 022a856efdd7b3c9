"""Random partitionings of the sphere, of all orders, and how far their pixels are apart."""

from typing import Any

import healpy
import numpy as np
import numpy.typing as npt

from support import oracle, skies

Ints = npt.NDArray[np.int64]


def some_pixels(rng: np.random.Generator, order: int, count: int = 300) -> Ints:
    """All pixels of a low order; random ones, the first and the last of a high one."""
    if 12 << 2 * order <= 1000:
        return np.arange(12 << 2 * order)
    last = (12 << 2 * order) - 1
    return np.unique(np.append(rng.integers(0, last, count), [0, 1, 2, 3, last]))


def random_tiling(rng: np.random.Generator, deepest: int, targets: int) -> Ints:
    """A tiling of the sphere that gets as small as `deepest` at random, and at fixed, places."""
    orders = rng.integers(0, deepest + 1, targets)
    pixels = rng.integers(0, 12 << 2 * orders)
    # The north pole, two vertices of three base faces, a corner of four.
    places = zip((0.1, 0.1, 90.1, 45.1), (89.9, 41.9, -41.9, 0.1), strict=True)
    at = np.array([[deepest, healpy.ang2pix(1 << deepest, *p, True, True)] for p in places])
    chosen = at[rng.random(4) < 0.5]
    return skies.refined_partitions(np.concatenate([np.column_stack([orders, pixels]), chosen]))


def random_partitions(rng: np.random.Generator, deepest: int, targets: int) -> Ints:
    tiling = random_tiling(rng, deepest, targets)
    kept = rng.random(len(tiling)) < rng.choice([0.3, 0.9, 1.0])
    kept[rng.integers(len(tiling))] = True
    return tiling[kept]


def distances_between(pixels: Ints, samples: int = 24) -> tuple[Any, Any]:
    """Bounds on the distances [arcsec] between pixels of a tiling, by samples of boundaries."""
    outlines = [oracle.boundary_samples(*pixel, samples).astype(np.float64) for pixel in pixels]
    upper = np.zeros((len(pixels), len(pixels)))
    for one, outline in enumerate(outlines):
        cosines = outline.T @ np.hstack(outlines[one:])
        best = cosines.max(axis=0).reshape(len(pixels) - one, -1).max(axis=1)
        upper[one, one:] = upper[one:, one] = np.arccos(np.clip(best, -1, 1))
    gaps = np.array([oracle.half_gap(order, samples) for order, _ in pixels])
    lower = upper - gaps[:, None] - gaps
    return lower / skies.ARCSEC, (upper + 1e-7) / skies.ARCSEC
