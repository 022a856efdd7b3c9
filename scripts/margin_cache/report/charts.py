"""Histograms of a margin's files, and what the stages have cost."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from margin_cache.report.benchmarks import StageCost
from margin_cache.report.contents import ReportData
from margin_cache.report.style import (
    MARGIN,
    PRIMARY,
    RenderedFigure,
    drawn,
    new_figure,
    placeholder_figure,
    plain_ticks,
)

_BINS = 24
_WIDE = 5  # times: values that differ by more have a logarithmic axis
_SPREAD = 0.28  # of the points of a stage, so that they do not hide one another
_COLOURS = (PRIMARY, MARGIN, "#4d4d4d")


def draw_histograms(contents: ReportData) -> RenderedFigure:
    """Return histograms of the rows and the sizes of a margin's files."""
    has_file = contents.margin_bytes > 0
    figure, (rows, sizes) = new_figure(14, 4.6, 2)
    for axes, values, label in (
        (rows, contents.margin_rows[has_file].astype(float), "rows of a file"),
        (sizes, contents.margin_bytes[has_file] / 1000, "size of a file (kB)"),
    ):
        if len(values):
            is_wide = values.max() > _WIDE * values.min()
            bins = np.geomspace if is_wide else np.linspace
            bounds = bins(values.min() / 1.05, values.max() * 1.05, _BINS + 1)
            axes.hist(values, bins=bounds, color=PRIMARY, edgecolor="white", lw=0.6)
            middle = float(np.median(values))
            axes.axvline(middle, color=MARGIN, lw=2.5, label=f"median {middle:.4g}")
            if is_wide:
                axes.set_xscale("log")
                plain_ticks(axes.xaxis)
            axes.legend(frameon=False)
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(label)
        axes.set_ylabel("files")
    count = int(has_file.sum())
    caption = f"The {count} files of the margin."
    return drawn(figure, "histograms", "Rows and sizes of the margin's files", caption)


def draw_costs(costs: Sequence[StageCost]) -> RenderedFigure:
    """Return time and memory of the jobs of each stage."""
    title = "Time and memory of the jobs"
    if not costs:
        return placeholder_figure(
            "costs", title, "Nothing is known: the files of the jobs are deleted."
        )
    figure, panels = new_figure(14, 1.6 + 0.9 * len(costs), 2)
    rng = np.random.default_rng(1)
    for axes, label, values in (
        (panels[0], "seconds a job", [cost.seconds for cost in costs]),
        (panels[1], "memory of a job (MB)", [cost.memory_mb for cost in costs]),
    ):
        for place, (jobs, colour) in enumerate(zip(values, _COLOURS, strict=False)):
            heights = place + rng.uniform(-_SPREAD, _SPREAD, len(jobs))
            axes.plot(jobs, heights, "o", ms=6, alpha=0.6, color=colour, mec="none")
            middle = float(np.median(jobs))
            axes.plot([middle] * 2, [place - 0.38, place + 0.38], color="black", lw=2.5)
        axes.set_yticks(range(len(costs)), [cost.stage for cost in costs])
        axes.set_ylim(len(costs) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    caption = "Each point is a job, each line a median. Of very short jobs the memory is not known."
    return drawn(figure, "costs", title, caption)
