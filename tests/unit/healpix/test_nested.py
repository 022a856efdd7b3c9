"""The arithmetic on nested pixels is that of healpy and of the oracle."""

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from margin_cache.healpix.nested import (
    ARCSEC_PER_RADIAN,
    finest_margin_order,
    negative_pixels,
    pixel_ranges,
    resolution,
    split_pixel,
    touches_border,
)
from support import oracle
from support.tilings import random_partitions, some_pixels

few_examples = settings(max_examples=60, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("order", range(30))
def test_split_pixel_is_that_of_healpy(order: int) -> None:
    pixels = some_pixels(np.random.default_rng(order), order)
    face, x, y = split_pixel(np.full(len(pixels), order), pixels)
    expected_x, expected_y, expected_face = healpy.pix2xyf(1 << order, pixels, nest=True)
    np.testing.assert_array_equal([face, x, y], [expected_face, expected_x, expected_y])


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("shift", [0, 1, 7, 22])
@pytest.mark.parametrize("order", [0, 1, 3, 8])
@pytest.mark.parametrize("depth", [0, 1, 2, 5, 8])
def test_cells_that_touch_the_border_have_a_neighbour_outside(
    order: int, depth: int, shift: int, dtype: type
) -> None:
    rng = np.random.default_rng(order)
    pixel = int(rng.integers(0, 12 << 2 * order))
    count = 1 << 2 * depth
    inside = np.arange(count) if count <= 1024 else rng.integers(0, count, 3000)
    cells = (pixel << 2 * depth) + inside
    index = (cells.astype(dtype) << dtype(shift)) + rng.integers(0, 1 << shift, len(cells)).astype(
        dtype
    )
    around = healpy.get_all_neighbours(1 << (order + depth), cells, nest=True)
    outside = ((around >= 0) & (around >> 2 * depth != pixel)).any(axis=0)
    found = touches_border(index, shift, order, order + depth)
    np.testing.assert_array_equal(found, outside)


def test_ranges_are_those_of_the_smallest_pixels_inside() -> None:
    orders, pixels = np.array([0, 1, 5, 29, 0]), np.array([11, 47, 12287, 12 * 4**29 - 1, 0])
    starts, ends = pixel_ranges(orders, pixels)
    assert starts.tolist() == [p << 2 * (29 - k) for k, p in zip(orders, pixels, strict=True)]
    assert ends.tolist() == [(p + 1) << 2 * (29 - k) for k, p in zip(orders, pixels, strict=True)]
    starts, ends = pixel_ranges(orders[:3], pixels[:3], 5)
    assert starts.tolist() == [11 * 1024, 47 * 256, 12287]
    assert ends.tolist() == [12 * 1024, 48 * 256, 12288]


@few_examples
@given(seed=seeds, deepest=st.integers(0, 20), targets=st.integers(1, 12))
def test_negative_pixels_are_those_of_the_oracle(seed: int, deepest: int, targets: int) -> None:
    partitions = random_partitions(np.random.default_rng(seed), deepest, targets)
    found = np.column_stack(negative_pixels(*partitions.T))
    np.testing.assert_array_equal(found, oracle.negative_pixels(partitions))


@pytest.mark.parametrize("order", [0, 9, 29])
def test_negative_pixels_of_one_pixel_fill_the_sky(order: int) -> None:
    orders, pixels = negative_pixels(np.array([order]), np.array([1]))
    assert len(orders) == 11 + 3 * order
    starts, ends = pixel_ranges(np.append(orders, order), np.append(pixels, 1))
    assert (ends - starts).sum() == 12 << 58


def test_margin_order_is_the_finest_that_is_safe_by_the_bound() -> None:
    for threshold in (0.001, 0.05, 1.0, 10.0, 60.0, 1800.0, 36_000.0):
        order = finest_margin_order(threshold)
        assert resolution(order) / 1.6 >= threshold > resolution(order + 1) / 1.6
        assert resolution(order) == pytest.approx(
            healpy.nside2resol(1 << order) * ARCSEC_PER_RADIAN
        )
