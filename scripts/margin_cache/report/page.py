"""The page of a report: one HTML file with the figures in it, which needs no other file."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from margin_cache.report.data import ReportData, StageCosts
from margin_cache.report.style import RenderedFigure
from margin_cache.storage.files import size_text

_MAX_LARGEST = 10  # files in the table of the largest ones


def page_text(
    data: ReportData, figures: Sequence[RenderedFigure], costs: Sequence[StageCosts]
) -> str:
    """Return the page of a report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["base64"] = lambda image: b64encode(image).decode()
    environment.filters["number"] = lambda value: f"{int(value):,}"
    environment.filters["size"] = lambda value: size_text(int(value))
    by_rows = np.argsort(-data.margin_rows, kind="stable")
    largest = by_rows[data.margin_rows[by_rows] > 0][:_MAX_LARGEST]
    return environment.get_template("page.html").render(
        data=data, figures=figures, costs=costs, largest=largest.tolist()
    )
