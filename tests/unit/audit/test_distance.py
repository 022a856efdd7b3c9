import numpy as np
import pytest
from margin_cache.audit.distance import INSIDE, OUTSIDE, judge_distances
from support import boundary_pairs
from support.oracle.distances import exact_distances


@pytest.mark.parametrize("pixel", [(0, 3), (1, 3), (3, 63), (3, 5), (2, 70), (5, 1023), (4, 3000)])
def test_verdicts_equal_the_oracles(pixel: tuple[int, int]) -> None:
    order = np.full(300, pixel[0])
    numbers = np.full(300, pixel[1])
    rng = np.random.default_rng(pixel)
    foot = boundary_pairs.edge_points(rng, order, numbers)
    ra, dec = boundary_pairs.displaced(rng, foot, rng.random(300) * 1e-4)
    exact = exact_distances(ra, dec, order, numbers).astype(np.float64)
    outside = exact > 0
    verdict, distance = judge_distances(ra, dec, *pixel, 10.0)
    assert set(verdict[outside]) >= {INSIDE, OUTSIDE}
    assert (exact[verdict == INSIDE] <= 10).all()
    assert (exact[outside & (verdict == OUTSIDE)] > 10).all()
    near = np.abs(exact - 10) < 0.01
    assert not (outside & (verdict == 0) & ~near).any()
    assert np.abs(distance - exact)[outside & near].max(initial=0) < 0.01
