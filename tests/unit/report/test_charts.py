"""Histograms and costs are drawn, also of nothing."""

from dataclasses import replace

import numpy as np
from margin_cache.report.benchmarks import StageCost
from margin_cache.report.charts import draw_costs, draw_histograms
from margin_cache.report.contents import ReportData


def test_histograms_are_of_the_files_that_there_are(contents: ReportData):
    files = int((contents.margin_bytes > 0).sum())
    drawn = draw_histograms(contents)
    assert f"The {files} files of the margin." == drawn.caption
    more = replace(contents, margin_rows=contents.margin_rows * 1000)
    assert draw_histograms(more).png != drawn.png


def test_a_margin_without_files_has_a_histogram_too(contents: ReportData):
    nothing = np.zeros_like(contents.margin_rows)
    empty = draw_histograms(replace(contents, margin_rows=nothing, margin_bytes=nothing))
    assert empty.caption == "The 0 files of the margin."


def test_each_stage_has_its_costs():
    jobs = np.array([1.0, 2.0, 4.0])
    costs = [StageCost(stage, jobs, jobs, 10 * jobs) for stage in ("Mapping", "Reducing")]
    both, one = draw_costs(costs), draw_costs(costs[:1])
    assert both.png != one.png
    assert b"median" not in both.png and "median" in both.caption


def test_costs_that_are_not_known_are_said_to_be():
    drawn = draw_costs([])
    assert drawn.name == "costs"
    assert drawn.caption.startswith("Nothing is known")
