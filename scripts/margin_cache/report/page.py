"""The page of a report, which holds its figures and needs no other file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from margin_cache.report.benchmarks import StageCost
from margin_cache.report.contents import ReportData
from margin_cache.report.style import RenderedFigure
from margin_cache.storage.files import size_text

_LARGEST = 10
_VERDICTS = ("verdict", "summary", "result")
"""Entries of an audit that may hold its verdict in words."""


def page_text(
    contents: ReportData, figures: Sequence[RenderedFigure], costs: Sequence[StageCost]
) -> str:
    """Return the page of a report as HTML.

    Args:
        contents: what the report is about.
        figures: its figures.
        costs: what the stages have cost, as far as it is known.
    """
    directory = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=directory, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        name=contents.name,
        threshold=f"{contents.threshold:g}",
        total_rows=_number(contents.margin_rows.sum()),
        total_files=_number((contents.margin_bytes > 0).sum()),
        total_size=size_text(int(contents.margin_bytes.sum())),
        primary_rows=_number(contents.primary_rows.sum()),
        partitions=_number((~contents.is_negative).sum()),
        destinations=_number(len(contents.orders)),
        negative=_number(contents.is_negative.sum()),
        audit=contents.audit,
        verdict=_verdict(contents.audit or {}),
        figures=[
            {
                "name": figure.name,
                "title": figure.title,
                "caption": figure.caption,
                "image": b64encode(figure.png).decode(),
            }
            for figure in figures
        ],
        costs=[_cost(cost) for cost in costs],
        largest=_largest(contents),
        parameters=contents.parameters,
        versions=contents.versions,
    )


def _number(value: Any) -> str:
    return f"{int(value):,}"


def _verdict(audit: Mapping[str, Any]) -> str:
    """Return what an audit says in words, or an empty text."""
    return next((str(audit[key]) for key in _VERDICTS if key in audit), "")


def _cost(cost: StageCost) -> dict[str, str]:
    return {
        "stage": cost.stage,
        "jobs": _number(len(cost.seconds)),
        "seconds": f"{cost.seconds.sum():.1f}",
        "cpu_seconds": f"{cost.cpu_seconds.sum():.1f}",
        "memory_mb": f"{cost.memory_mb.max():.0f}",
    }


def _largest(contents: ReportData) -> list[dict[str, str]]:
    """Return the files of the margin with the most rows."""
    first = np.argsort(-contents.margin_rows, kind="stable")[:_LARGEST]
    return [
        {
            "order": str(contents.orders[number]),
            "pixel": str(contents.pixels[number]),
            "rows": _number(contents.margin_rows[number]),
            "size": size_text(int(contents.margin_bytes[number])),
            "own": "outside the catalog"
            if contents.is_negative[number]
            else _number(contents.primary_rows[number]),
        }
        for number in first
        if contents.margin_rows[number]
    ]
