"""Neighbours of pixels are those of healpy, and none is too far for the coarse filter."""

from typing import Any

import healpy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from margin_cache.healpix.neighbors import cells_and_neighbours, centres, pixels_at
from margin_cache.healpix.nested import (
    ARCSEC_PER_RADIAN,
    finest_margin_order,
    resolution,
    split_pixel,
)
from support import skies
from support.tilings import some_pixels

few_examples = settings(max_examples=60, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("order", range(30))
def test_neighbours_are_those_of_healpy(order: int) -> None:
    pixels = some_pixels(np.random.default_rng(order), order)
    found = cells_and_neighbours(order, pixels)
    assert found.shape == (len(pixels), 9)
    np.testing.assert_array_equal(found[:, 0], pixels)
    expected = healpy.get_all_neighbours(1 << order, pixels, nest=True).T
    for around, others in zip(found[:, 1:], expected, strict=True):
        assert set(around.tolist()) - {-1} == set(others.tolist()) - {-1}


def points_in_places(rng: np.random.Generator, order: int, count: int) -> tuple[Any, Any]:
    """Points in cells, most near their sides and corners; also near poles and face borders."""
    cells = rng.integers(0, 12 << 2 * order, count)
    face, x, y = split_pixel(np.full(count, order), cells)
    last = (1 << order) - 1
    x[::3], y[1::5] = rng.choice([0, last], len(x[::3])), rng.choice([0, last], len(y[1::5]))
    cells = healpy.xyf2pix(1 << order, x, y, face, nest=True)
    u, v = rng.random((2, count))
    u[::2] = rng.choice([1e-9, 1e-3, 1 - 1e-3, 1 - 1e-9], len(u[::2]))
    v[::4] = rng.choice([1e-9, 1e-3, 1 - 1e-3, 1 - 1e-9], len(v[::4]))
    return skies.pixel_positions(np.column_stack([np.full(count, order), cells]), u, v)


@few_examples
@given(seed=seeds, order=st.integers(0, 20), share=st.floats(0.51, 1.0))
@example(seed=0, order=0, share=1.0)
@example(seed=1, order=1, share=1.0)
@example(seed=2, order=2, share=1.0)
@example(seed=3, order=3, share=1.0)
@example(seed=4, order=4, share=1.0)
def test_points_within_the_threshold_are_in_touching_cells(
    seed: int, order: int, share: float
) -> None:
    # A rounding error must not make the threshold larger than the order allows.
    threshold = share * resolution(0) / 1.6 / 2**order * (1 - 1e-12)
    assert finest_margin_order(threshold) == order
    rng = np.random.default_rng(seed)
    count = 20_000
    lon, lat = points_in_places(rng, order, count)
    away = np.full(count, threshold / ARCSEC_PER_RADIAN) * rng.choice([1.0, 0.999, 0.7], count)
    there = skies.offset_positions(lon, lat, away, rng)
    cells = healpy.ang2pix(1 << order, lon, lat, nest=True, lonlat=True)
    others = healpy.ang2pix(1 << order, *there, nest=True, lonlat=True)
    assert (cells_and_neighbours(order, cells) == others[:, None]).any(axis=1).all()


@pytest.mark.parametrize("order", [0, 5, 19, 29])
def test_pixels_of_points_are_those_of_healpy_whatever_the_turn(order: int) -> None:
    rng = np.random.default_rng(order)
    lon, lat = rng.uniform(0, 360, 1000), np.degrees(np.arcsin(rng.uniform(-1, 1, 1000)))
    expected = healpy.ang2pix(1 << order, lon, lat, nest=True, lonlat=True)
    np.testing.assert_array_equal(pixels_at(order, lon, lat), expected)
    # A whole turn costs some bits, which matter at fine orders only.
    for turns in (-2, -1, 1, 2) if order < 10 else ():
        np.testing.assert_array_equal(pixels_at(order, lon + 360 * turns, lat), expected)


@pytest.mark.parametrize("order", [0, 5, 19, 29])
def test_centres_are_those_of_healpy(order: int) -> None:
    pixels = some_pixels(np.random.default_rng(order), order)
    found = centres(np.full(len(pixels), order), pixels)
    expected = healpy.pix2ang(1 << order, pixels, nest=True, lonlat=True)
    np.testing.assert_allclose(np.stack(found), np.stack(expected), rtol=1e-12, atol=1e-12)
