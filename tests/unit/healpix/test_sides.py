"""Sides of pixels agree with the oracle, and their derivatives with the curve."""

import numpy as np
import pytest
from margin_cache.healpix.sides import evaluate, sides_of
from support import oracle
from support.boundary_pairs import any_orders, random_pixels

COUNT = 200
STEP = 1e-5


def sides_and_points(seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    orders = any_orders(rng, COUNT) % 8
    pixels = random_pixels(rng, orders)
    lon, lat = rng.uniform(0, 360, COUNT), np.degrees(np.arcsin(rng.uniform(-1, 1, COUNT)))
    return sides_of(lon, lat, orders, pixels), lon, lat, orders, pixels


def test_the_nearest_of_many_points_on_the_sides_is_as_far_as_the_boundary() -> None:
    sides, lon, lat, orders, pixels = sides_and_points(1)
    t = np.linspace(0, 1, 2001)
    angles = evaluate(sides, np.broadcast_to(t, (4 * COUNT, len(t)))).angle
    nearest = angles.reshape(COUNT, -1).min(axis=1)
    exact = oracle.exact_distances(lon, lat, orders, pixels).astype(np.float64)
    arcsec = np.degrees(nearest) * 3600
    gap = 1.6 / 2.0**orders / (len(t) - 1) * 206265
    assert (arcsec >= exact - 1e-6).all()
    assert (arcsec <= exact + gap).all()


@pytest.mark.parametrize("seed", [2, 3])
def test_slope_and_bend_are_derivatives_of_the_cosine_of_the_angle(seed: int) -> None:
    sides, *_, orders, _ = sides_and_points(seed)
    t = np.random.default_rng(seed).uniform(0.05, 0.95, 4 * COUNT)
    before, here, after = (evaluate(sides, t + step) for step in (-STEP, 0, STEP))
    slope = (np.cos(after.angle) - np.cos(before.angle)) / (2 * STEP)
    bend = (after.slope - before.slope) / (2 * STEP)
    size = np.repeat(2.0**-orders, 4)
    np.testing.assert_allclose(here.slope / size, slope / size, atol=2e-8 / size.min() / 1e2)
    # The curvature of a polar side grows towards the pole.
    np.testing.assert_allclose(here.bend / size**2, bend / size**2, rtol=1e-4, atol=1e-3)


def test_chosen_sides_keep_all_attributes() -> None:
    sides, *_ = sides_and_points(4)
    chosen = np.array([7, 7, 3])
    taken = evaluate(sides.take(chosen), np.full(3, 0.3))
    whole = evaluate(sides, np.full(4 * COUNT, 0.3)).take(chosen)
    for name in ("angle", "slope", "bend"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(whole, name))
