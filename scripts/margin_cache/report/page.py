"""The page of a report (one HTML file that refers to no other), and its figures."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from margin_cache import figures
from margin_cache.audit.findings import CLEAN, KINDS, explain, headline
from margin_cache.audit.request import AUDIT_MAP
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import FIGURES
from margin_cache.notification import counted
from margin_cache.report.data import ReportData, StageCosts, read_costs, read_report_data
from margin_cache.storage.files import atomic_path, size_text, write_text

_FRAMES = {"equatorial": "C", "galactic": "G"}
_BINS = 24
_BAR, _MEDIAN = "#1f5fa8", "#d9541e"  # colours
_LOG_RATIO = 5  # of the largest to the smallest value, from which on an axis is logarithmic
_MAX_LARGEST = 10  # files in the table of the largest ones


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as PNG; `name` is the name of its file without the suffix."""

    name: str
    title: str
    caption: str
    png: bytes


def write_report(margin: Margin) -> None:
    margin.use_catalog()
    data = read_report_data(margin)
    drawn = [*draw_maps(data), draw_histograms(data)]
    for figure in drawn:
        with atomic_path(margin.files.report_dir / f"{figure.name}.png") as path:
            path.write_bytes(figure.png)
    shown = [*_audit_map(margin, data), *drawn]
    write_text(margin.files.report_page, page_text(data, shown, read_costs(margin.files)))


def _audit_map(margin: Margin, data: ReportData) -> list[RenderedFigure]:
    """Return the map of what an audit has found, if it has found anything."""
    if data.audit is None or data.audit["verdict"] == CLEAN:
        return []
    png = margin.files.audit_file.with_name(AUDIT_MAP).read_bytes()
    caption = (
        f"{headline(data.audit, 'the margin').capitalize()}. Left: defects by which a crossmatch "
        "can be wrong; right: other defects. Yellow to red: pixels by the number of their defects, "
        "blue: checked, nothing found, grey: not checked, or far from the catalog. East is left."
    )
    return [RenderedFigure("audit", "Where the audit found defects", caption, png)]


def draw_maps(data: ReportData) -> list[RenderedFigure]:
    """Draw maps of the orders of partitions, of margin rows, and of their ratio to own rows."""
    rows = np.where(data.margin_rows > 0, data.margin_rows, np.nan)
    share = 100 * rows / np.where(data.primary_rows > 0, data.primary_rows, np.nan)
    no_share = "no margin rows, or no rows of its own"
    orders = np.where(data.is_negative, np.nan, data.orders)
    order_norm, outside = figures.order_norm(orders), "outside the catalog"
    return [
        _draw_map(data, "orders", orders, order_norm, "order", outside),
        _draw_map(data, "margin_rows", rows, figures.log_norm(rows), "rows", "no margin rows"),
        _draw_map(data, "margin_share", share, figures.log_norm(share), "%", no_share),
    ]


def _draw_map(
    data: ReportData, name: str, values: figures.Floats, norm: Normalize, unit: str, grey: str
) -> RenderedFigure:
    figure, panels = figures.new_figure(figures.MAP_HEIGHT, len(_FRAMES))
    for axes, (title, frame) in zip(panels, _FRAMES.items(), strict=True):
        mapping = figures.draw_sky(axes, data.orders, data.pixels, values, norm, frame)
        axes.set_title(title)
    if np.isfinite(values).any():
        figures.colour_bar(figure, mapping, panels, unit)
    caption = f"Grey: {grey}. East is left."
    return RenderedFigure(name, FIGURES[name], caption, figures.render(figure))


def draw_histograms(data: ReportData) -> RenderedFigure:
    figure, (rows, sizes) = figures.new_figure(4, 2)
    has_file = data.margin_bytes > 0
    if not has_file.any():
        caption = "The margin has no files."
        return RenderedFigure("histograms", FIGURES["histograms"], caption, figures.render(figure))
    for axes, values, label in (
        (rows, data.margin_rows[has_file].astype(float), "rows of a file"),
        (sizes, data.margin_bytes[has_file] / 1000, "size of a file (kB)"),
    ):
        is_log = values.max() > _LOG_RATIO * values.min()
        spacing = np.geomspace if is_log else np.linspace
        bounds = spacing(values.min() / 1.05, values.max() * 1.05, _BINS + 1)
        axes.hist(values, bins=bounds, color=_BAR, edgecolor="white", lw=0.6)
        median = float(np.median(values))
        axes.axvline(median, color=_MEDIAN, lw=2.5, label=f"median {median:.4g}")
        if is_log:
            axes.set_xscale("log")
            figures.plain_ticks(axes.xaxis)
        elif axes is rows:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(frameon=False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(label)
        axes.set_ylabel("files")
    caption = f"All files of the margin: {int(has_file.sum()):,}."
    return RenderedFigure("histograms", FIGURES["histograms"], caption, figures.render(figure))


def page_text(
    data: ReportData, shown: Sequence[RenderedFigure], costs: Sequence[StageCosts]
) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["base64"] = lambda image: b64encode(image).decode()
    environment.filters["number"] = lambda value: f"{int(value):,}"
    environment.filters["counted"] = lambda value, noun: counted(int(value), noun, ",")
    environment.filters["size"] = lambda value: size_text(int(value))
    environment.filters["value"] = lambda value: (
        value if value and isinstance(value, str) else json.dumps(value)
    )
    environment.filters["headline"] = lambda audit: headline(audit, "the margin").capitalize()
    environment.filters["explain"] = explain
    by_rows = np.argsort(-data.margin_rows, kind="stable")
    largest = by_rows[data.margin_rows[by_rows] > 0][:_MAX_LARGEST]
    return environment.get_template("page.html").render(
        data=data,
        figures=shown,
        costs=costs,
        largest=largest.tolist(),
        outside=np.count_nonzero(data.margin_bytes[data.is_negative]),
        kinds=KINDS,
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
