"""The coarse filter finds the destinations that a row's cell or one that touches it overlaps."""

import healpy
import numpy as np
import pytest
from margin_cache.healpix.margin_filter import find_candidates
from margin_cache.healpix.nested import Pixel, pixel_ranges
from support import oracle
from support.tilings import random_partitions

INDEX_ORDER = 19


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
        assert (np.diff(rows) >= 0).all()
        several += len(expected)
    assert several > 100


def test_no_rows_have_no_candidates() -> None:
    destinations = pixel_ranges(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))
    rows, found = find_candidates(np.zeros(0, dtype=np.int64), 20, Pixel(0, 0), destinations, 9)
    assert len(rows) == len(found) == 0
