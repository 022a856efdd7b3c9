"""The pairs of pixels that can share rows of a margin are found, and few others."""

import healpy
import numpy as np
import pytest
from margin_cache.healpix.adjacency import pixels_within
from margin_cache.healpix.nested import finest_margin_order, pixel_ranges, resolution
from support.tilings import distances_between, random_tiling


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
