"""Sky maps, histograms of a margin's files, and the costs of the stages."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from margin_cache.figures import (
    MAP_HEIGHT,
    MARGIN,
    PRIMARY,
    RenderedFigure,
    colour_bar,
    draw_sky,
    log_norm,
    new_figure,
    order_norm,
    placeholder_figure,
    plain_ticks,
    render,
)
from margin_cache.margin.paths import FIGURES
from margin_cache.report.data import ReportData, StageCosts

_FRAMES = {"equatorial": "C", "galactic": "G"}
_BINS = 24
_LOG_RATIO = 5  # of the largest to the smallest value, from which on an axis is logarithmic
_JITTER = 0.28  # of the points of a stage, so that they do not hide one another
_COLOURS = (PRIMARY, MARGIN, "#4d4d4d")


def draw_maps(data: ReportData) -> list[RenderedFigure]:
    """Draw maps of the orders of partitions, of margin rows, and of their ratio to own rows."""
    rows = np.where(data.margin_rows > 0, data.margin_rows, np.nan)
    share = 100 * rows / np.where(data.primary_rows > 0, data.primary_rows, np.nan)
    orders = np.where(data.is_negative, np.nan, data.orders)
    return [
        _draw_map(data, "orders", orders, order_norm(orders), "order", "outside the catalog"),
        _draw_map(data, "margin_rows", rows, log_norm(rows), "rows", "no margin rows"),
        _draw_map(
            data,
            "margin_share",
            share,
            log_norm(share),
            "%",
            "no margin rows, or no rows of its own",
        ),
    ]


def _draw_map(
    data: ReportData, name: str, values: NDArray[np.float64], norm: Normalize, unit: str, grey: str
) -> RenderedFigure:
    figure, panels = new_figure(MAP_HEIGHT, len(_FRAMES))
    for axes, (title, frame) in zip(panels, _FRAMES.items(), strict=True):
        mapping = draw_sky(axes, data.orders, data.pixels, values, norm, frame)
        axes.set_title(title)
    if np.isfinite(values).any():
        colour_bar(figure, mapping, panels, unit)
    return render(figure, name, FIGURES[name], f"Grey: {grey}. East is left.")


def draw_histograms(data: ReportData) -> RenderedFigure:
    """Draw histograms of the numbers of rows and the sizes of a margin's files."""
    has_file = data.margin_bytes > 0
    if not has_file.any():
        return placeholder_figure("histograms", FIGURES["histograms"], "The margin has no files.")
    figure, (rows, sizes) = new_figure(4, 2)
    for axes, values, label in (
        (rows, data.margin_rows[has_file].astype(float), "rows of a file"),
        (sizes, data.margin_bytes[has_file] / 1000, "size of a file (kB)"),
    ):
        is_log = values.max() > _LOG_RATIO * values.min()
        spacing = np.geomspace if is_log else np.linspace
        bounds = spacing(values.min() / 1.05, values.max() * 1.05, _BINS + 1)
        axes.hist(values, bins=bounds, color=PRIMARY, edgecolor="white", lw=0.6)
        median = float(np.median(values))
        axes.axvline(median, color=MARGIN, lw=2.5, label=f"median {median:.4g}")
        if is_log:
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
        elif axes is rows:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(frameon=False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(label)
        axes.set_ylabel("files")
    caption = f"All files of the margin: {int(has_file.sum()):,}."
    return render(figure, "histograms", FIGURES["histograms"], caption)


def draw_costs(costs: Sequence[StageCosts]) -> RenderedFigure | None:
    """Draw time and memory of the jobs of each stage; None if no stage has several jobs."""
    if all(len(stage.seconds) == 1 for stage in costs):
        return None
    figure, panels = new_figure(0.8 + 0.7 * len(costs), 2)
    rng = np.random.default_rng(1)
    for axes, label, values in (
        (panels[0], "seconds of a job", [stage.seconds for stage in costs]),
        (panels[1], "memory of a job (MB)", [stage.memory_mb for stage in costs]),
    ):
        for line, (jobs, colour) in enumerate(zip(values, _COLOURS, strict=False)):
            known = jobs[np.isfinite(jobs)]
            heights = line + rng.uniform(-_JITTER, _JITTER, len(known))
            axes.plot(known, heights, "o", ms=6, alpha=0.6, color=colour, mec="none")
            median = float(np.median(known)) if len(known) else np.nan
            axes.plot([median] * 2, [line - 0.38, line + 0.38], color="black", lw=2.5)
        axes.set_yticks(range(len(costs)), [stage.stage for stage in costs])
        axes.set_ylim(len(costs) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    caption = (
        "Each point is a job, each line a median. The memory of very short jobs is unknown and not "
        "drawn, or measured too low."
    )
    return render(figure, "costs", "Time and memory of the jobs", caption)
