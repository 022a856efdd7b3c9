import tracemalloc

import healpy
import numpy as np
import pytest
from margin_cache.audit.distance import (
    BEYOND,
    WITHIN,
    compare_distances,
    near_boundary,
    polygon_error,
)
from support import boundary_pairs
from support.oracle.distances import exact_distances


@pytest.mark.parametrize("pixel", [(0, 3), (1, 3), (3, 63), (3, 5), (2, 70), (5, 1023), (4, 3000)])
def test_verdicts_equal_the_oracle(pixel: tuple[int, int]) -> None:
    order = np.full(300, pixel[0])
    numbers = np.full(300, pixel[1])
    rng = np.random.default_rng(pixel)
    foot = boundary_pairs.edge_points(rng, order, numbers)
    ra, dec = boundary_pairs.displaced(rng, foot, rng.random(300) * 1e-4)
    exact = exact_distances(ra, dec, order, numbers).astype(np.float64)
    outside = exact > 0
    verdict, distance = compare_distances(ra, dec, *pixel, 10.0)
    assert set(verdict[outside]) >= {WITHIN, BEYOND}
    assert (exact[verdict == WITHIN] <= 10).all()
    assert (exact[outside & (verdict == BEYOND)] > 10).all()
    near = np.abs(exact - 10) < 0.01
    assert not (outside & (verdict == 0) & ~near).any()
    assert np.abs(distance - exact)[outside & near].max(initial=0) < 0.01


PIXELS = [(0, 3), (0, 5), (1, 3), (3, 63), (6, 4095), (6, 4094), (3, 5), (5, 9000), (10, 1_048_575)]


@pytest.mark.parametrize("pixel", [*PIXELS, *((2, number) for number in range(0, 192, 5))])
@pytest.mark.parametrize("steps", [1, 4, 16])
def test_the_error_of_the_polygon_is_within_its_bound(pixel: tuple[int, int], steps: int) -> None:
    """At 64 points of the curve for each chord. The bound is not too large either."""
    order, number = pixel
    corners = healpy.boundaries(2**order, number, step=steps, nest=True).T
    curve = healpy.boundaries(2**order, number, step=64 * steps, nest=True).T
    along = np.tile(np.arange(64) / 64, 4 * steps)[:, None]
    ends = np.repeat(np.roll(corners, -1, axis=0), 64, axis=0)
    chords = (1 - along) * np.repeat(corners, 64, axis=0) + along * ends
    farthest = np.linalg.norm(curve - chords, axis=1).max()
    assert 0.001 * polygon_error(order, steps) < farthest <= polygon_error(order, steps)


@pytest.mark.parametrize("pixel", PIXELS)
def test_no_row_near_the_boundary_is_dropped(pixel: tuple[int, int]) -> None:
    order, number = (np.full(2000, value) for value in pixel)
    rng = np.random.default_rng(pixel)
    away = np.exp(rng.uniform(np.log(1e-6), np.log(0.3 / 2 ** pixel[0]), 2000))
    ra, dec = boundary_pairs.displaced(rng, boundary_pairs.edge_points(rng, order, number), away)
    verdict, _ = compare_distances(ra, dec, *pixel, 10.0)
    near = near_boundary(ra, dec, *pixel, 10.0)
    assert (verdict == WITHIN).any()
    assert near[verdict != BEYOND].all()
    assert near.mean() < 0.9


def test_many_rows_need_little_memory() -> None:
    """Pairs of rows and chords are not all held at once."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(40, 50, 40_000), rng.uniform(-5, 5, 40_000)
    tracemalloc.start()
    try:
        near_boundary(ra, dec, 1, 17, 3600.0)
        compare_distances(ra[:4000], dec[:4000], 1, 17, 3600.0)
        assert tracemalloc.get_traced_memory()[1] < 25e6
    finally:
        tracemalloc.stop()
