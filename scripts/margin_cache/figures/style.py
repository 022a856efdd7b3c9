"""The style of all figures: one width, one size of letters, no colours that only differ in hue."""

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
"""Colours of the rows of a partition, of its margin, and of other partitions."""

_WIDTH = 14  # inches, of all figures, so that a page shows all letters in the same size
_DPI = 160
_STYLE: dict[str, Any] = {
    "font.size": 14,
    "axes.titlesize": 14,
    "figure.titlesize": 14,
    "axes.labelsize": 14,
    "legend.fontsize": 14,
    "xtick.labelsize": 14,
    "ytick.labelsize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "margin-cache",  # or the names inside would differ between two drawings
}


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as PNG and as SVG; `name` is the name of its files without their suffix."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes


def new_figure(height: float, columns: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure of a height in inches, and its axes side by side."""
    plt.style.use(_STYLE)
    figure, axes = plt.subplots(
        1, columns, figsize=(_WIDTH, height), layout="constrained", squeeze=False
    )
    return figure, list(axes[0])


def plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10, ... instead of powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def placeholder_figure(name: str, title: str, reason: str) -> RenderedFigure:
    """Return a figure with the reason why there is no data."""
    figure, (axes,) = new_figure(1)
    axes.text(0.5, 0.5, reason, ha="center", va="center", transform=axes.transAxes)
    axes.axis("off")
    return render(figure, name, title, reason)


def render(figure: Figure, name: str, title: str, caption: str) -> RenderedFigure:
    """Render a figure, to the same bytes each time, and close it."""
    svg = _image(figure, "svg", {"Date": None, "Creator": None})
    return RenderedFigure(name, title, caption, render_png(figure), svg)


def render_png(figure: Figure) -> bytes:
    """Render a figure as PNG, and close it."""
    image = _image(figure, "png", {"Software": None})
    plt.close(figure)
    return image


def _image(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata, facecolor="white")
    figure.set_layout_engine("none")  # the next image has the same layout, and need not find it
    return file.getvalue()


def write_figure(figure: RenderedFigure, directory: Path) -> None:
    for kind, image in (("png", figure.png), ("svg", figure.svg)):
        with atomic_path(directory / f"{figure.name}.{kind}") as temporary:
            temporary.write_bytes(image)
