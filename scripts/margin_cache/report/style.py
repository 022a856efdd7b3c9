"""How all figures look: readable at half their size, and without telling red from green."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from margin_cache.storage.files import atomic_path

PRIMARY, MARGIN, OTHER = "#1f5fa8", "#d9541e", "0.72"
"""Colours of the rows of a partition, of its margin, and of what lies around it."""

NOTHING = "0.86"
"""Colour of where there is nothing to show."""

COLOURS = "viridis"

_DPI = 160
_STYLE: dict[str, Any] = {
    "font.size": 14,
    "axes.titlesize": 16,
    "axes.labelsize": 15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "margin-cache",  # or each drawing would have other names inside
}


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as it is written.

    Attributes:
        name: name of its files, without what they end with.
        title: what it shows, in a few words.
        caption: what is to be seen in it.
        png: as PNG.
        svg: as SVG.
    """

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure of a size in inches, and its axes beside one another."""
    plt.rcParams.update(_STYLE)
    figure, axes = plt.subplots(
        1, columns, figsize=(width, height), layout="constrained", squeeze=False
    )
    return figure, list(axes[0])


def plain_ticks(axis: Any) -> None:
    """Have a logarithmic axis say 1, 2, 5, 10, ... instead of powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def placeholder_figure(name: str, title: str, words: str) -> RenderedFigure:
    """Return a figure that says why there is nothing to show."""
    figure, (axes,) = new_figure(9, 2)
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
    axes.axis("off")
    return drawn(figure, name, title, words)


def drawn(figure: Figure, name: str, title: str, caption: str) -> RenderedFigure:
    """Return a figure as it is written, the same bytes each time, and forget it."""
    images = {}
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata, facecolor="white")
        images[kind] = file.getvalue()
    plt.close(figure)
    return RenderedFigure(name, title, caption, **images)


def write_drawn(figure: RenderedFigure, directory: Path) -> None:
    """Write the files of a figure."""
    for kind, image in (("png", figure.png), ("svg", figure.svg)):
        with atomic_path(directory / f"{figure.name}.{kind}") as temporary:
            temporary.write_bytes(image)
