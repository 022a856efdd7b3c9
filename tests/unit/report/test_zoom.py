"""The partition that is figure has a visible margin."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.partitions import partition_files
from margin_cache.margin.model import Margin
from margin_cache.report.data import ReportData
from margin_cache.report.zoom import choose_partition, draw_partition


def sky(**changes: list) -> ReportData:
    """A sky of the twelve base pixels, of which the first four are divided."""
    orders = np.array([1] * 16 + [0] * 8)
    pixels = np.array([*range(16), *range(4, 12)])
    values = {"primary_rows": np.full(24, 100), "margin_rows": np.full(24, 5)}
    values["is_negative"] = np.zeros(24, bool)
    for name, numbers in changes.items():
        values[name] = values[name].copy()
        for number, value in numbers:
            values[name][number] = value
    return ReportData(
        "a",
        10.0,
        orders,
        pixels,
        margin_bytes=np.zeros(24),
        parameters={},
        versions={},
        audit=None,
        **values,
    )


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"margin_rows": [(20, 99), (6, 7)]}, 6),  # the smaller one, though it has fewer rows
        ({"margin_rows": [(6, 7), (3, 8)]}, 6),  # not the one at the pole
        ({"margin_rows": [(6, 7), (5, 6)], "is_negative": [(6, True)]}, 5),
    ],
)
def test_a_small_partition_with_many_margin_rows_is_chosen(changes: dict, number: int):
    assert choose_partition(sky(**changes)) == number


def test_without_margin_rows_there_is_a_placeholder(margin: Margin):
    data = replace(sky(), margin_rows=np.zeros(24, int))
    assert choose_partition(data) is None
    assert draw_partition(margin, data).caption == "No partition has margin rows."


def test_the_caption_has_the_numbers_of_rows(margin: Margin, data: ReportData):
    number = choose_partition(data)
    order, pixel = margin.plan.destination(number)
    (file,) = partition_files(margin.plan.parameters.catalog, margin.plan.destination(number))
    near = margin.files.output_dir / margin.plan.margin_path(number)
    figure = draw_partition(margin, data)
    rows = pq.read_metadata(file).num_rows, pq.read_metadata(near).num_rows
    assert figure.caption.startswith(f"{rows[0]} rows, {rows[1]} in the margin.")
    assert figure.title == f"Order {order}, pixel {pixel}, with its margin of 3600 arcsec"
