"""Maps and histograms are drawn, also without data."""

import re
from dataclasses import replace

import numpy as np
from margin_cache.report.data import ReportData
from margin_cache.report.page import draw_histograms, draw_maps


def test_a_margin_without_rows_has_maps(data: ReportData):
    nothing = np.zeros_like(data.margin_rows)
    maps = draw_maps(replace(data, margin_rows=nothing, margin_bytes=nothing))
    assert [figure.name for figure in maps] == ["orders", "margin_rows", "margin_share"]
    assert maps[0].png != maps[1].png
    assert b"<!-- rows -->" not in maps[1].svg and b"<!-- order -->" in maps[0].svg


def test_histograms_have_the_files_of_the_margin(data: ReportData):
    files = int((data.margin_bytes > 0).sum())
    figure = draw_histograms(data)
    assert f"All files of the margin: {files}." == figure.caption
    more = replace(data, margin_rows=data.margin_rows * 1000)
    assert draw_histograms(more).png != figure.png


def test_a_margin_without_files_has_no_histograms(data: ReportData):
    nothing = np.zeros_like(data.margin_rows)
    empty = draw_histograms(replace(data, margin_rows=nothing, margin_bytes=nothing))
    assert empty.caption == "The margin has no files."


def test_a_file_of_one_row_has_a_tick_at_one(data: ReportData):
    one = np.zeros_like(data.margin_rows)
    one[0] = 1
    figure = draw_histograms(replace(data, margin_rows=one, margin_bytes=5000 * one))
    ticks = re.findall(rb"<!-- ([\d.]+) -->", figure.svg.partition(b"axes_2")[0])
    assert set(ticks) == {b"0", b"1"}
