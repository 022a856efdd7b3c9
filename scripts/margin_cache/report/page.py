"""The page of a report (one HTML file that refers to no other), and its images."""

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from margin_cache.audit.verdict import AUDIT_MAP, CLEAN, KINDS, explain, headline
from margin_cache.figures import RenderedFigure, write_figure
from margin_cache.margin.model import Margin
from margin_cache.notification.messages import counted
from margin_cache.report.charts import draw_costs, draw_histograms, draw_maps, draw_partition
from margin_cache.report.data import ReportData, StageCosts, read_costs, read_report_data
from margin_cache.storage.files import size_text, write_text

_MAX_LARGEST = 10  # files in the table of the largest ones


def write_report(margin: Margin) -> None:
    margin.use_catalog()
    data = read_report_data(margin)
    figures = [*draw_maps(data), draw_histograms(data), draw_partition(margin, data)]
    for figure in figures:
        write_figure(figure, margin.files.report_dir)
    shown = [*_audit_map(margin, data), *figures]
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
    return [RenderedFigure("audit", "Where the audit found defects", caption, png, b"")]


def page_text(
    data: ReportData, figures: Sequence[RenderedFigure], costs: Sequence[StageCosts]
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
        figures=figures,
        costs=costs,
        costs_figure=draw_costs(costs),
        largest=largest.tolist(),
        outside=np.count_nonzero(data.margin_bytes[data.is_negative]),
        kinds=KINDS,
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
