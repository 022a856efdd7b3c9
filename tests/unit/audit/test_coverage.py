import healpy
import numpy as np
import pytest
from margin_cache.audit.coverage import nested, overlapping, partitions_around, rest_of_sky
from support import oracle, skies
from support.small_skies import mixed_partitions

Pixel = tuple[int, int]


def as_pixels(partitions: skies.IntArray) -> list[Pixel]:
    return [(int(order), int(number)) for order, number in partitions]


def test_the_rest_of_the_sky_is_that_of_the_oracle() -> None:
    partitions = skies.nested_sort(mixed_partitions())[::3]
    expected = as_pixels(oracle.negative_pixels(partitions))
    assert len({order for order, _ in expected}) > 3
    assert set(rest_of_sky(as_pixels(partitions))) == set(expected)
    assert rest_of_sky([(0, number) for number in range(12)]) == []


def test_pixels_in_and_around_partitions_overlap_them() -> None:
    assert overlapping([(1, 4), (0, 1), (2, 17), (3, 5)], [(1, 4)]) == [(0, 1), (2, 17)]


def test_neighbours_are_near_in_nested_order() -> None:
    assert nested([(1, 5), (0, 0), (2, 17), (1, 4)]) == [(0, 0), (1, 4), (2, 17), (1, 5)]


@pytest.mark.parametrize("pixel", [(2, 15), (2, 70), (2, 0)])
def test_no_neighbour_is_left_out(pixel: Pixel) -> None:
    everywhere = [(2, number) for number in range(192)]
    touching = {int(n) for n in healpy.get_all_neighbours(4, pixel[1], nest=True) if n >= 0}
    ((given, found),) = partitions_around([pixel], everywhere, 1.0)
    assert given == pixel
    assert touching | {pixel[1]} <= {number for _, number in found}
    assert len(found) < len(everywhere) / 4


def test_what_the_oracle_finds_comes_from_partitions_around() -> None:
    partitions = skies.nested_sort(mixed_partitions())
    u, v = np.random.default_rng(2).random((2, 40))
    numbers = np.arange(40) * 7 % len(partitions)
    chosen = partitions[numbers]
    ra, dec = skies.pixel_positions(chosen, u, np.where(v < 0.5, 0.01, v))
    everywhere = as_pixels(partitions)
    around = dict(partitions_around(everywhere, everywhere, 1800.0))
    rows, places, _ = oracle.brute_force_margin(ra, dec, numbers, partitions, partitions, 1800.0)
    assert len(rows) > 5
    for row, place in zip(rows, places, strict=True):
        assert everywhere[numbers[row]] in around[everywhere[place]]


def test_no_partition_is_left_out_whose_border_is_just_near_enough() -> None:
    """By borders of pixels as healpy draws them; some pairs have no room to spare."""
    rng = np.random.default_rng(5)
    orders = rng.integers(0, 4, (400, 2))
    numbers = rng.integers(0, 12 << 2 * orders)
    rooms = []
    for pair in np.stack([orders, numbers], axis=2).tolist():
        one, other = map(tuple, pair)
        borders = [healpy.boundaries(1 << o, n, step=16, nest=True).T for o, n in (one, other)]
        distance = np.arccos(np.clip((borders[0] @ borders[1].T).max(), -1, 1))
        ((_, found),) = partitions_around([one], [other], np.degrees(distance) * 3600 + 1e-3)
        assert found == [other]
        centres = [healpy.pix2vec(1 << o, n, nest=True) for o, n in (one, other)]
        apart = np.arccos(np.clip(np.dot(*centres), -1, 1))
        radii = [healpy.max_pixrad(1 << o) for o, _ in (one, other)]
        rooms.append((sum(radii) + distance - apart) / min(radii))
    assert min(rooms) < 0.1
