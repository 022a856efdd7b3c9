"""The arithmetic of what large catalogs are said to take, against numbers worked out by hand."""

from dataclasses import astuple

import numpy as np
import pytest
from support.scaling import (
    SKY_SQUARE_DEGREES,
    Catalog,
    Rates,
    Record,
    finishing_mb,
    fitted,
    planning_cpu,
    table_of_scale,
)

RATES = Rates(0.5, 0.01, 0.002, 0.004, 0.05, 0.001)


def record(mapping: float, reducing: float, finishing: float, **sizes: float) -> Record:
    """What a sky took: four map jobs, two reduce jobs and the job that finishes."""
    return {
        **sizes,
        "stages": {
            "a script's start": {"jobs": 1, "cpu": 0.5},
            "map_partitions": {"jobs": 4, "cpu": mapping},
            "reduce_margins": {"jobs": 2, "cpu": reducing},
            "finish_margin": {"jobs": 1, "cpu": finishing},
        },
    }


# Each stage is the starts of its jobs, and what RATES say of files and megabytes.
MANY = record(
    2.0 + 10.0 + 0.2, 1.0 + 3.6 + 0.5, 0.5 + 0.9,
    partitions=1000, megabytes=100, files=900, margin_mb=10,
)  # fmt: skip
LARGE = record(
    2.0 + 1.0 + 4.0, 1.0 + 0.36 + 2.0, 0.5 + 0.09,
    partitions=100, megabytes=2000, files=90, margin_mb=40,
)  # fmt: skip


def test_rates_are_recovered_from_two_skies() -> None:
    assert astuple(fitted([MANY, LARGE])) == pytest.approx(astuple(RATES))


def test_the_share_of_a_margin_is_a_frame_with_round_corners_around_a_square() -> None:
    # Squares of one degree: four sides of 36 arcsec by 1 degree, and a circle of 36 arcsec.
    catalog = Catalog("even", 1e6, 10, 1e3, 1000, sky=1000 / SKY_SQUARE_DEGREES, threshold=36.0)
    assert catalog.share == pytest.approx(0.04 + 3.14159265e-4)


PAGE = """
| 9 | 9.9 | 9.9 | 9 | 9 | 9 | 9 | 9 | 9 | 9 | 9 | 9 |
## Scale
| partitions | jobs | s | CPU s | MB | s | CPU s | MB | files | s | CPU s | MB |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| 1,000 | 100 | 9.0 | 5.0 | 1 | 1.0 | 1.0 | 1 | 1,000 | 1.0 | 1.0 | 7 |
| 60,000 | 100 | 9.0 | 64.0 | 1 | 1.0 | 1.0 | 1 | 60,000 | 1.0 | 1.0 | 9,000 |
| 60,000 | 100 | 9.0 | 99.0 | 1 | 1.0 | 1.0 | 1 | 60,000 | 1.0 | 1.0 | 220 |
| 100,000 | 200 | 9.0 | 106.0 | 1 | 1.0 | 1.0 | 1 | 100,000 | 1.0 | 1.0 | 300 |
## Another
| 8 | 8.8 | 8.8 | 8 | 8 | 8 | 8 | 8 | 8 | 8 | 8 | 8 |
"""


def test_planning_and_finishing_follow_the_tables_of_the_page() -> None:
    found = table_of_scale(PAGE)
    assert found.shape == (4, 12)
    np.testing.assert_array_equal(found[0, :4], [1000, 100, 9, 5])
    # 2 s, 1 ms for each partition and 20 ms for each job; the busy repetition counts for nothing.
    assert planning_cpu(found, 10_000, 500) == pytest.approx(2.0 + 10.0 + 10.0)
    # 100 MB and 2 kB for each file, of large numbers alone, and of the last measurement of each.
    assert finishing_mb(found, 200_000) == pytest.approx(500.0)
