"""Neighbours are those of healpy; no pair of near pixels, and no row near one, is left out."""

from itertools import product
from typing import Any

import healpy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from margin_cache.healpix.neighbors import (
    are_candidates,
    cells_and_neighbours,
    centres,
    find_candidates,
    pixels_at,
    pixels_within,
)
from margin_cache.healpix.nested import (
    ARCSEC_PER_RADIAN,
    Pixel,
    finest_margin_order,
    pixel_ranges,
    resolution,
    split_pixel,
)
from support import oracle, skies
from support.tilings import distances_between, random_partitions, random_tiling, some_pixels

few_examples = settings(max_examples=60, deadline=None, database=None)
INDEX_ORDER = 19
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


# Pairs of pixels
def test_pixels_within_are_all_that_can_share_rows_and_few_others() -> None:
    found_total = possible_total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        tiling = random_tiling(rng, int(rng.integers(1, 10)), int(rng.integers(1, 4)))
        threshold = float(np.exp(rng.uniform(0.0, np.log(36_000.0))))
        kept = np.flatnonzero(rng.random(len(tiling)) < 0.8)
        partitions = tiling[kept]
        sources, destinations = pixels_within(
            tuple(partitions.T), tuple(tiling.T), threshold, finest_margin_order(threshold)
        )
        found = np.zeros((len(partitions), len(tiling)), dtype=bool)
        found[sources, destinations] = True
        assert found.sum() == len(sources), "pairs are given twice"
        lower, upper = (bound[kept] for bound in distances_between(tiling))
        own = np.arange(len(tiling)) == kept[:, None]
        forgotten = (upper <= threshold) & ~found & ~own
        assert not forgotten.any(), (seed, threshold, np.argwhere(forgotten)[:3])
        # No pair is farther apart than by what the circles around pixels add to the threshold.
        finer = np.maximum(partitions[:, :1], tiling[:, 0])
        slack = 3.4 * resolution(0) / 2.0**finer
        absurd = (lower > threshold + slack) & found & ~own
        assert not absurd.any(), (seed, threshold, np.argwhere(absurd)[:3])
        found_total += (found & ~own).sum()
        possible_total += ((lower <= threshold) & ~own).sum()
    print(f"{found_total} pairs found, {possible_total} not ruled out by samples")
    assert found_total < 1.3 * possible_total


@pytest.mark.parametrize("finest", range(6))
def test_pixels_within_without_a_threshold_are_those_of_touching_cells(finest: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tiling = random_tiling(rng, 7, 3)
        found = pixels_within(tuple(tiling.T), tuple(tiling.T), np.inf, finest)
        pairs = set(zip(*(part.tolist() for part in found), strict=True))
        assert len(pairs) == len(found[0])
        starts, ends = pixel_ranges(*tiling.T, 29)
        for source, (order, pixel) in enumerate(tiling.tolist()):
            low, high = (edge[source] >> 2 * (29 - finest) for edge in (starts, ends))
            cells = np.arange(low, max(high, low + 1))
            around = healpy.get_all_neighbours(1 << finest, cells, nest=True).ravel()
            reach = np.unique(np.concatenate([cells, around[around >= 0]]))
            first = np.searchsorted(ends, reach << 2 * (29 - finest), side="right")
            last = np.searchsorted(starts, (reach + 1) << 2 * (29 - finest), side="left")
            needed = {
                (source, other)
                for a, b in zip(first.tolist(), last.tolist(), strict=True)
                for other in range(a, b)
            }
            assert needed - {(source, source)} <= pairs, (seed, order, pixel)


# Rows near pixels
def expected_pairs(
    index: np.ndarray, shift: int, own: tuple[int, int], pixels: np.ndarray, margin_order: int
) -> set[tuple[int, int]]:
    """Pairs of row and destination, by healpy's neighbours and overlapping ranges."""
    found = set()
    starts = pixels[:, 1] * 4 ** (29 - pixels[:, 0])
    stops = (pixels[:, 1] + 1) * 4 ** (29 - pixels[:, 0])
    for row, value in enumerate(index.tolist()):
        cell = value >> shift
        around = healpy.get_all_neighbours(1 << margin_order, cell, nest=True)
        for near in {cell, *around[around >= 0].tolist()}:
            low, high = near * 4 ** (29 - margin_order), (near + 1) * 4 ** (29 - margin_order)
            for other in np.flatnonzero((starts < high) & (stops > low)).tolist():
                if tuple(pixels[other]) != own:
                    found.add((row, other))
    return found


@pytest.mark.parametrize(("dtype", "bits"), [(np.int64, 0), (np.uint64, 0), (np.uint64, 22)])
@pytest.mark.parametrize("margin_order", [2, 4, 7])
def test_candidates_are_those_of_all_cells_around(
    margin_order: int, dtype: type[np.integer], bits: int
) -> None:
    """In a tiling of mixed orders; also where cells are coarser than the partition."""
    rng = np.random.default_rng(margin_order)
    partitions = random_partitions(rng, 6, 10)
    pixels = np.concatenate([partitions, oracle.negative_pixels(partitions)])
    pixels = pixels[np.argsort(pixels[:, 1] * 4 ** (29 - pixels[:, 0]))]
    shift = bits + 2 * (INDEX_ORDER - margin_order)
    several = 0
    for order, pixel in partitions[rng.choice(len(partitions), 12, replace=False)].tolist():
        inside = 2 * (INDEX_ORDER - order)
        nested = (pixel << inside) + rng.integers(0, 1 << inside, 60)
        # The corners of the pixel, too.
        nested[:4] = (pixel << inside) + np.array([0, 1, 2, 3]) * ((1 << inside) - 1) // 3
        index = (nested.astype(dtype) << dtype(bits)) + dtype((1 << bits) - 1)
        rows, destinations = find_candidates(
            index, shift, Pixel(order, pixel), pixel_ranges(*pixels.T), margin_order
        )
        found = list(zip(rows.tolist(), destinations.tolist(), strict=True))
        expected = expected_pairs(index, shift, (order, pixel), pixels, margin_order)
        assert len(found) == len(set(found))
        assert set(found) == expected
        pairs = np.array(list(product(range(len(index)), range(len(pixels)))))
        cells = (index >> dtype(shift)).astype(np.int64)
        mask = are_candidates(cells[pairs[:, 0]], margin_order, *pixels[pairs[:, 1]].T)
        other = (pixels[pairs[:, 1]] != (order, pixel)).any(axis=1)
        assert set(map(tuple, pairs[mask & other].tolist())) == expected
        assert (np.diff(rows) >= 0).all()
        several += len(expected)
    assert several > 100


def test_no_rows_have_no_candidates() -> None:
    destinations = pixel_ranges(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))
    rows, found = find_candidates(np.zeros(0, dtype=np.int64), 20, Pixel(0, 0), destinations, 9)
    assert len(rows) == len(found) == 0
