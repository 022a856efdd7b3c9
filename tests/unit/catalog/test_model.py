"""Paths of pixels, and partitions as arrays and as values."""

from dataclasses import replace

import numpy as np
import pytest
from margin_cache.catalog.model import Partitions
from margin_cache.catalog.spec import pixel_dir, pixel_path
from margin_cache.healpix.nested import Pixel


@pytest.mark.parametrize(
    ("pixel", "group"), [(0, 0), (9_999, 0), (10_000, 10_000), (123_456, 120_000)]
)
def test_directories_hold_ten_thousand_pixels(pixel: int, group: int) -> None:
    assert pixel_dir(pixel) == group
    np.testing.assert_array_equal(pixel_dir(np.array([pixel, 20_001])), [group, 20_000])
    assert pixel_path(Pixel(9, pixel)) == f"Norder=9/Dir={group}/Npix={pixel}.parquet"


@pytest.mark.parametrize("suffix", [".parq", "/", ""])
def test_paths_have_the_suffix_of_the_catalog(suffix: str) -> None:
    assert pixel_path(Pixel(2, 7), suffix) == f"Norder=2/Dir=0/Npix=7{suffix}"


def test_chosen_partitions_keep_pixel_and_state() -> None:
    partitions = Partitions(*(np.arange(4) + 10 * row for row in range(5)))
    for chosen in (np.array([3, 1]), np.array([False, True, False, True])):
        part = partitions.take(chosen)
        rows = np.arange(4)[chosen]
        np.testing.assert_array_equal(part.orders, rows)
        np.testing.assert_array_equal(part.pixels, rows + 10)
        np.testing.assert_array_equal(part.sizes, rows + 20)
        np.testing.assert_array_equal(part.times, rows + 30)
        np.testing.assert_array_equal(part.parts, rows + 40)
        assert len(part) == len(rows)
        first = ((rows[0], rows[0] + 10), (rows[0] + 20, rows[0] + 30, rows[0] + 40))
        assert part[0] == next(iter(part)) == first
        assert {type(number) for values in part[0] for number in values} == {int}


@pytest.mark.parametrize("name", ["sizes", "times", "parts"])
def test_a_changed_state_is_noticed(name: str) -> None:
    partitions = Partitions(*(np.arange(4) + 10 * row for row in range(5)))
    values = getattr(partitions, name).copy()
    values[2] += 1
    other = replace(partitions, **{name: values})
    assert partitions.changed_from(other).tolist() == [False, False, True, False]
    assert partitions.state_bytes(0, 2) == other.state_bytes(0, 2)
    assert partitions.state_bytes(1, 3) != other.state_bytes(1, 3)


def test_state_bytes_of_single_files_are_sizes_and_times() -> None:
    """The names of intermediate files depend on them."""
    one, two = np.arange(4), np.arange(4) + 7
    partitions = Partitions(one, one, one, two, np.zeros(4, dtype=np.int64))
    assert partitions.state_bytes(0, 4) == one.tobytes() + two.tobytes()
