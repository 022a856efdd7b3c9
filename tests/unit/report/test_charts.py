"""Maps and histograms are drawn, also without data."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from margin_cache import figures
from margin_cache.report.data import ReportData
from margin_cache.report.page import draw_histograms, draw_maps


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, and not rendered."""
    drawings: list[Any] = []
    monkeypatch.setattr(figures, "render", drawings.append)
    return drawings


def labels(figure: Any) -> list[str]:
    return [axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes]


def test_a_margin_without_rows_has_maps(data: ReportData, drawn: list[Any]):
    nothing = np.zeros_like(data.margin_rows)
    maps = draw_maps(replace(data, margin_rows=nothing, margin_bytes=nothing))
    assert [figure.name for figure in maps] == ["orders", "margin_rows", "margin_share"]
    orders, rows, _ = map(labels, drawn)
    assert "order" in orders and "rows" not in rows


def test_histograms_have_the_files_of_the_margin(data: ReportData, drawn: list[Any]):
    files = int((data.margin_bytes > 0).sum())
    assert draw_histograms(data).caption == f"All files of the margin: {files}."
    draw_histograms(replace(data, margin_rows=data.margin_rows * 1000))
    for figure in drawn:
        for axes in figure.axes:
            assert sum(bar.get_height() for bar in axes.patches) == files
    assert drawn[0].axes[0].get_xlim() != drawn[1].axes[0].get_xlim()


def test_a_margin_without_files_has_no_histograms(data: ReportData, drawn: list[Any]):
    nothing = np.zeros_like(data.margin_rows)
    empty = draw_histograms(replace(data, margin_rows=nothing, margin_bytes=nothing))
    assert empty.caption == "The margin has no files."


def test_a_file_of_one_row_has_a_tick_at_one(data: ReportData, drawn: list[Any]):
    one = np.zeros_like(data.margin_rows)
    one[0] = 1
    draw_histograms(replace(data, margin_rows=one, margin_bytes=5000 * one))
    (figure,) = drawn
    figure.draw_without_rendering()
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    low, high = figure.axes[0].get_xlim()
    assert [text for text in ticks if low <= float(text) <= high] == ["1"]
