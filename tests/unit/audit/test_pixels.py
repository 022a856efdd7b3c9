import healpy
import numpy as np
import pytest
from margin_cache.audit.distance import nearby_partitions
from margin_cache.audit.request import (
    FINEST_ORDER,
    SKY_END,
    Pixel,
    cut_sky,
    first_descendant,
    is_in_sample,
    overlapping_pixels,
    restrict,
    sort_nested,
    uncovered_sky,
)
from support import oracle, skies
from support.small_skies import mixed_partitions

PIXELS = [(2, number) for number in range(192)] + [(0, 3), (29, SKY_END - 1), (29, 0)]


def as_pixels(partitions: skies.IntArray) -> list[Pixel]:
    return [(int(order), int(number)) for order, number in partitions]


def test_uncovered_sky_equals_the_oracle() -> None:
    partitions = skies.nested_sort(mixed_partitions())[::3]
    expected = as_pixels(oracle.negative_pixels(partitions))
    assert len({order for order, _ in expected}) > 3
    assert set(uncovered_sky(as_pixels(partitions))) == set(expected)
    assert uncovered_sky([(0, number) for number in range(12)]) == []


def test_pixels_in_and_around_partitions_overlap_them() -> None:
    assert overlapping_pixels([(1, 4), (0, 1), (2, 17), (3, 5)], [(1, 4)]) == [(0, 1), (2, 17)]


def test_a_margin_of_some_pixels_has_the_partitions_that_overlap_them() -> None:
    partitions = [(0, 1), (1, 4), (1, 8), (2, 36), (3, 5)]
    assert restrict(partitions, [(1, 4), (1, 9)]) == [(0, 1), (1, 4), (2, 36)]
    assert restrict(partitions, []) == partitions


def test_pixels_are_sorted_in_nested_order() -> None:
    assert sort_nested([(1, 5), (0, 0), (2, 17), (1, 4)]) == [(0, 0), (1, 4), (2, 17), (1, 5)]


@pytest.mark.parametrize("pixel", [(2, 15), (2, 70), (2, 0)])
def test_all_neighbours_are_nearby(pixel: Pixel) -> None:
    everywhere = [(2, number) for number in range(192)]
    touching = {int(n) for n in healpy.get_all_neighbours(4, pixel[1], nest=True) if n >= 0}
    ((result, partitions),) = nearby_partitions([pixel], everywhere, 1.0)
    assert result == pixel
    assert touching | {pixel[1]} <= {number for _, number in partitions}
    assert len(partitions) < len(everywhere) / 4


def test_what_the_oracle_finds_comes_from_nearby_partitions() -> None:
    partitions = skies.nested_sort(mixed_partitions())
    u, v = np.random.default_rng(2).random((2, 40))
    numbers = np.arange(40) * 7 % len(partitions)
    chosen = partitions[numbers]
    ra, dec = skies.pixel_positions(chosen, u, np.where(v < 0.5, 0.01, v))
    everywhere = as_pixels(partitions)
    nearby = dict(nearby_partitions(everywhere, everywhere, 1800.0))
    rows, targets, _ = oracle.brute_force_margin(ra, dec, numbers, partitions, partitions, 1800.0)
    assert len(rows) > 5
    for row, target in zip(rows, targets, strict=True):
        assert everywhere[numbers[row]] in nearby[everywhere[target]]


def test_partitions_at_exactly_the_threshold_are_nearby() -> None:
    """By the boundaries that healpy computes. For some pairs the circles are hardly larger."""
    rng = np.random.default_rng(5)
    orders = rng.integers(0, 4, (400, 2))
    numbers = rng.integers(0, 12 << 2 * orders)
    slack = []
    for pair in np.stack([orders, numbers], axis=2).tolist():
        one, other = map(tuple, pair)
        boundaries = [healpy.boundaries(1 << o, n, step=16, nest=True).T for o, n in (one, other)]
        distance = np.arccos(np.clip((boundaries[0] @ boundaries[1].T).max(), -1, 1))
        ((_, nearby),) = nearby_partitions([one], [other], np.degrees(distance) * 3600 + 1e-3)
        assert nearby == [other]
        centres = [healpy.pix2vec(1 << o, n, nest=True) for o, n in (one, other)]
        apart = np.arccos(np.clip(np.dot(*centres), -1, 1))
        radii = [healpy.max_pixrad(1 << o) for o, _ in (one, other)]
        slack.append((sum(radii) + distance - apart) / min(radii))
    assert min(slack) < 0.1


def test_the_first_descendant_of_a_pixel() -> None:
    assert first_descendant((FINEST_ORDER, 5)) == 5
    assert first_descendant((FINEST_ORDER - 1, 5)) == 20
    assert first_descendant((0, 11)) == 11 * 4**FINEST_ORDER
    assert first_descendant((3, 8)) == first_descendant((2, 2)) < first_descendant((3, 9))


def test_each_pixel_is_in_one_range() -> None:
    order_2 = SKY_END // 192
    ranges = cut_sky(["a", "b", "c"], [5 * order_2, 7 * order_2, 100 * order_2])
    assert [part.name for part in ranges if part.contains((2, 0))] == ["a"]
    assert [part.name for part in ranges if part.contains((2, 6))] == ["a"]
    assert [part.name for part in ranges if part.contains((2, 7))] == ["b"]
    assert [part.name for part in ranges if part.contains((0, 0))] == ["a"]
    assert all(sum(part.contains(pixel) for part in ranges) == 1 for pixel in PIXELS)


def test_a_sample_has_the_requested_size_and_depends_on_the_seed() -> None:
    pixels = [(6, number) for number in range(10_000)]
    samples = [[pixel for pixel in pixels if is_in_sample(pixel, 0.1, seed)] for seed in (1, 2, 1)]
    assert all(900 < len(sample) < 1100 for sample in samples)
    assert samples[0] == samples[2]
    assert 60 < len(set(samples[0]) & set(samples[1])) < 140  # as if independent
    assert set(samples[0]) < {pixel for pixel in pixels if is_in_sample(pixel, 0.2, 1)}
    assert all(is_in_sample(pixel, 1.0, 1) for pixel in pixels)
    numbers = [{n for n in range(1000) if is_in_sample((order, n), 0.5, 1)} for order in (5, 6)]
    assert 400 < len(numbers[0] ^ numbers[1]) < 600
