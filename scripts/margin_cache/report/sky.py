"""Maps of the whole sky, in Mollweide's projection, equatorial and galactic."""

from typing import Any

import healpy
import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from margin_cache.healpix.nested import Ints
from margin_cache.report.contents import ReportData
from margin_cache.report.style import (
    COLOURS,
    NOTHING,
    RenderedFigure,
    drawn,
    new_figure,
    plain_ticks,
)

_WIDTH = 1400  # of a map, in points
_FRAMES = {"Equatorial": "C", "Galactic": "G"}
"""Titles of the maps, and what healpy calls their coordinates."""


def draw_maps(contents: ReportData) -> list[RenderedFigure]:
    """Return maps of the orders of partitions, of margin rows and of their share."""
    rows = contents.margin_rows.astype(float)
    own = contents.primary_rows
    share = np.where(own > 0, 100 * rows / np.maximum(own, 1), np.nan)
    orders = np.where(contents.is_negative, np.nan, contents.orders.astype(float))
    return [
        _draw(
            contents,
            orders,
            _by_order(orders),
            "orders",
            "Orders of the partitions",
            "order",
            "Grey: outside the catalog.",
        ),
        _draw(
            contents,
            np.where(rows > 0, rows, np.nan),
            _by_size(rows),
            "margin_rows",
            "Margin rows of each pixel",
            "margin rows",
            "Grey: pixels without margin rows.",
        ),
        _draw(
            contents,
            np.where(share > 0, share, np.nan),
            _by_size(share),
            "margin_share",
            "Margin rows, in percent of the partition's own",
            "margin rows, % of own",
            "Grey: pixels without margin rows, or without rows of their own.",
        ),
    ]


def _by_order(orders: NDArray[np.float64]) -> Normalize:
    """Return one colour for each order."""
    known = orders[np.isfinite(orders)]
    bounds = np.arange(known.min(), known.max() + 2) - 0.5
    return (
        BoundaryNorm(bounds, colormaps[COLOURS].N)
        if len(bounds) > 2
        else Normalize(bounds[0], bounds[1])
    )


def _by_size(values: NDArray[np.float64]) -> Normalize:
    """Return colours by the logarithm, of which a step is seen where values are small as well."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known):
        return Normalize(0, 1)
    least, most = float(known.min()), float(known.max())
    return LogNorm(least, most) if most > least else LogNorm(least / 2, most * 2)


def _draw(
    contents: ReportData,
    values: NDArray[np.float64],
    norm: Normalize,
    name: str,
    title: str,
    label: str,
    caption: str,
) -> RenderedFigure:
    figure, panels = new_figure(14, 4.6, len(_FRAMES))
    for axes, (title_of_panel, frame) in zip(panels, _FRAMES.items(), strict=True):
        mapping = _panel(axes, contents.orders, contents.pixels, values, norm, frame)
        axes.set_title(title_of_panel)
    _colour_bar(figure, mapping, panels, norm, label)
    return drawn(figure, name, title, f"{caption} East is left.")


def _panel(
    axes: Any,
    orders: Ints,
    pixels: Ints,
    values: NDArray[np.float64],
    norm: Normalize,
    frame: str,
) -> ScalarMappable:
    """Draw a map of values of pixels that tile the sky; return what its colours say."""
    projection = healpy.projector.MollweideProj(coord=frame, xsize=_WIDTH)
    seen = projected(projection, orders, pixels, values)
    mapping = ScalarMappable(norm, colormaps[COLOURS].with_extremes(bad=NOTHING))
    colours = mapping.to_rgba(np.ma.masked_invalid(seen))
    colours[np.isneginf(seen)] = 0  # outside of the sky
    axes.imshow(colours, extent=(-2, 2, -1, 1), origin="lower", interpolation="nearest")
    axes.add_patch(Ellipse((0, 0), 4, 2, facecolor="none", edgecolor="0.3", lw=1.6))
    _graticule(axes, projection)
    axes.set(xlim=(-2.03, 2.03), ylim=(-1.03, 1.03), aspect="equal")
    axes.axis("off")
    return mapping


def projected(
    projection: Any, orders: Ints, pixels: Ints, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return an image of the sky from values of pixels that tile it.

    Args:
        projection: a projector of healpy, in whatever coordinates.
        orders: orders of the pixels, which are in nested order and in equatorial coordinates.
        pixels: their numbers.
        values: their values.

    Returns:
        the values at the image's points, from south to north; outside of the sky, minus infinity.
    """
    finest = int(orders.max())
    starts = pixels << 2 * (finest - orders)

    def pixel_at(x: Any, y: Any, z: Any) -> Any:
        found = healpy.vec2pix(2**finest, x, y, z, nest=True)
        return np.searchsorted(starts, found, side="right") - 1

    return np.asarray(projection.projmap(values, pixel_at, coord="C"))


def _graticule(axes: Any, projection: Any) -> None:
    """Draw circles of latitude and longitude, with their degrees."""
    line = {"color": "white", "lw": 0.7, "alpha": 0.7}
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.6}
    words = {"fontsize": 11, "ha": "center", "va": "center", "bbox": halo}
    along = np.linspace(-179.99, 179.99, 181)
    for latitude in (-60, -30, 0, 30, 60):
        axes.plot(*_points(projection, along, np.full(181, float(latitude))), **line)
        if latitude:
            axes.text(*_points(projection, 0.0, float(latitude)), f"{latitude:+d}°", **words)
    for longitude in (-120, -60, 0, 60, 120):
        axes.plot(*_points(projection, np.full(181, float(longitude)), along / 2), **line)
        axes.text(*_points(projection, float(longitude), 0.0), f"{longitude % 360}°", **words)


def _points(projection: Any, longitude: Any, latitude: Any) -> Any:
    return projection.ang2xy(longitude, latitude, lonlat=True, direct=True)


def _colour_bar(
    figure: Figure, mapping: ScalarMappable, panels: list[Any], norm: Normalize, label: str
) -> None:
    bar = figure.colorbar(mapping, ax=panels, shrink=0.85, pad=0.01, aspect=18)
    bar.set_label(label)
    if isinstance(norm, BoundaryNorm):
        orders = [bound + 0.5 for bound in norm.boundaries[:-1]]
        bar.set_ticks(orders, labels=[f"{order:.0f}" for order in orders])
    elif isinstance(norm, LogNorm):
        plain_ticks(bar.ax.yaxis)
