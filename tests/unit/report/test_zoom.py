"""The partition that is drawn has a visible margin, and so has its border."""

from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pyarrow.parquet as pq
import pytest
from margin_cache.figures import new_figure
from margin_cache.healpix.nested import Pixel
from margin_cache.margin.model import Margin
from margin_cache.report import charts
from margin_cache.report.charts import (
    choose_border,
    choose_partition,
    draw_partition,
    fill_area,
    window_at,
)
from margin_cache.report.data import ReportData
from support.catalog_infos import partition_paths


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
        cell_order=None,
        date="",
        open_command="",
        changed={},
        defaults={},
        versions={},
        audit=None,
        audit_dir=Path(),
        **values,
    )


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"margin_rows": [(20, 99), (6, 7)]}, 6),  # the smaller one, though it has fewer rows
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
    (file,) = partition_paths(margin.plan.parameters.catalog, margin.plan.destination(number))
    near = margin.files.output_dir / margin.plan.margin_path(number)
    figure = draw_partition(margin, data)
    rows = pq.read_metadata(file).num_rows, pq.read_metadata(near).num_rows
    assert figure.caption.startswith(f"{rows[0]} rows, {rows[1]} in the margin of 3600 arcsec.")


@pytest.mark.parametrize("centre", [(83.8, -5.4), (0.0, 90.0), (359.999, 0.0), (12.0, -90.0)])
@pytest.mark.parametrize("half", [0.001, 30.0, 200_000.0])
def test_a_window_is_a_map_of_the_sky_around_its_centre(centre: tuple[float, float], half: float):
    window = window_at(healpy.ang2vec(*centre, lonlat=True), half)
    offsets = np.random.default_rng(1).uniform(-half, half, (2, 50))
    vectors = window.unproject(offsets)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert window.project(vectors) == pytest.approx(offsets, abs=1e-9 + 1e-9 * half)
    if abs(centre[1]) < 60 and half < 100:
        east, _ = healpy.vec2ang(window.unproject(np.array([[0.9 * half], [0.0]])), lonlat=True)
        assert ((east - centre[0]) % 360)[0] * np.cos(np.deg2rad(centre[1])) == pytest.approx(
            0.9 * half / 3600, rel=1e-3
        )


def test_the_zoom_shows_ten_arcsec_of_a_pixel_of_four_degrees():
    """Its middle is at the border, where most margin rows are."""
    pixel = Pixel(4, 1430)
    border = healpy.boundaries(16, 1430, step=100, nest=True).T
    crowd, alone = border[137], border[320]
    shift = np.linspace(0, 5e-5, 4)[:, None] * np.array([0.0, 0, 1])
    window = choose_border(pixel, np.concatenate([[alone], crowd + shift]), 30.0)
    assert window.half == 30
    assert np.linalg.norm(window.basis[2] - crowd) * 206265 < 20
    _, (axes,) = new_figure(7)
    fill_area(axes, window, pixel, 10.0)
    (area,) = axes.collections
    corners = np.concatenate([path.vertices for path in area.get_paths()])
    width = 60.0
    assert np.ptp(corners, axis=0).max() == pytest.approx(width, abs=1)
    inside = healpy.vec2pix(16, *window.unproject(corners.T * 0.99).T, nest=True) == 1430
    assert not inside.all()


@pytest.mark.parametrize("threshold", [0.001, 0.1, 1.0])
def test_the_zoom_shows_the_row_also_if_the_threshold_is_tiny(threshold: float):
    border = healpy.boundaries(2, 9, step=30_000, nest=True).T[10_001]
    row = border + threshold / 2 / 206265 * np.array([0.0, 0, 1])
    window = choose_border(Pixel(1, 9), row[None] / np.linalg.norm(row), 3 * threshold)
    assert np.abs(window.project(row[None] / np.linalg.norm(row))).max() < threshold


@pytest.mark.parametrize(
    "threshold",
    [
        1.0,
        100_000.0,
        *(pytest.param(arcsec, marks=pytest.mark.long) for arcsec in (3600.0, 36_000.0)),
    ],
)
def test_the_square_of_the_zoom_is_within_the_other_picture(
    margin: Margin, data: ReportData, threshold: float, monkeypatch: pytest.MonkeyPatch
):
    squares = []
    monkeypatch.setattr(charts, "_draw_square", lambda axes, *windows: squares.append(windows))
    draw_partition(margin, replace(data, threshold=threshold))
    ((whole, part),) = squares
    assert part.half < whole.half
    assert np.abs(whole.project(part.basis[2:])).max() + part.half < whole.half


def test_the_right_ascension_of_a_window_is_less_than_360_degrees():
    _, (axes,) = new_figure(2)
    charts._label_axes(axes, window_at(healpy.ang2vec(359.99999, 0.0, lonlat=True), 1.0))
    assert axes.get_xlabel() == "east of RA 0.0000° (arcsec)"
