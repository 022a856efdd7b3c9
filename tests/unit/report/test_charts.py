"""Histograms and costs are figure, also without data."""

from dataclasses import replace

import numpy as np
from margin_cache.report.charts import draw_costs, draw_histograms
from margin_cache.report.data import ReportData, StageCosts


def test_histograms_have_the_files_of_the_margin(data: ReportData):
    files = int((data.margin_bytes > 0).sum())
    figure = draw_histograms(data)
    assert f"The {files} files of the margin." == figure.caption
    more = replace(data, margin_rows=data.margin_rows * 1000)
    assert draw_histograms(more).png != figure.png


def test_a_margin_without_files_has_histograms(data: ReportData):
    nothing = np.zeros_like(data.margin_rows)
    empty = draw_histograms(replace(data, margin_rows=nothing, margin_bytes=nothing))
    assert empty.caption == "The 0 files of the margin."


def test_each_stage_has_its_costs():
    jobs = np.array([1.0, 2.0, 4.0])
    costs = [StageCosts(stage, jobs, jobs, 10 * jobs) for stage in ("Mapping", "Reducing")]
    both, one = draw_costs(costs), draw_costs(costs[:1])
    assert both.png != one.png
    assert b"median" not in both.png and "median" in both.caption


def test_unknown_costs_have_a_placeholder():
    figure = draw_costs([])
    assert figure.name == "costs"
    assert figure.caption.startswith("Unknown")
