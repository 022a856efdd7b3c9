"""Maps of the whole sky in the Mollweide projection, equatorial and galactic."""

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
from margin_cache.report.data import ReportData
from margin_cache.report.style import (
    COLOUR_MAP,
    NO_DATA,
    RenderedFigure,
    new_figure,
    plain_ticks,
    render,
)

_WIDTH = 1400  # of a map, in image points
_FRAMES = {"Equatorial": "C", "Galactic": "G"}
"""Titles of the maps, and healpy's names of their coordinate systems."""


def draw_maps(data: ReportData) -> list[RenderedFigure]:
    """Draw maps of the orders of partitions, of margin rows, and of their ratio to own rows."""
    rows = data.margin_rows.astype(float)
    own = data.primary_rows
    share = np.where(own > 0, 100 * rows / np.maximum(own, 1), np.nan)
    orders = np.where(data.is_negative, np.nan, data.orders.astype(float))
    return [
        _draw(
            data,
            orders,
            _norm_of_orders(orders),
            "orders",
            "Orders of the partitions",
            "order",
            "Grey: outside the catalog.",
        ),
        _draw(
            data,
            np.where(rows > 0, rows, np.nan),
            _log_norm(rows),
            "margin_rows",
            "Margin rows of each pixel",
            "margin rows",
            "Grey: pixels without margin rows.",
        ),
        _draw(
            data,
            np.where(share > 0, share, np.nan),
            _log_norm(share),
            "margin_share",
            "Margin rows, in percent of the partition's rows",
            "margin rows, % of rows",
            "Grey: pixels without margin rows, or without rows of the catalog.",
        ),
    ]


def _norm_of_orders(orders: NDArray[np.float64]) -> Normalize:
    """Return a scale with one colour for each order."""
    known = orders[np.isfinite(orders)]
    bounds = np.arange(known.min(), known.max() + 2) - 0.5
    return (
        BoundaryNorm(bounds, colormaps[COLOUR_MAP].N)
        if len(bounds) > 2
        else Normalize(bounds[0], bounds[1])
    )


def _log_norm(values: NDArray[np.float64]) -> Normalize:
    """Return a logarithmic scale, in which small values differ visibly too."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known):
        return Normalize(0, 1)
    least, most = float(known.min()), float(known.max())
    return LogNorm(least, most) if most > least else LogNorm(least / 2, most * 2)


def _draw(
    data: ReportData,
    values: NDArray[np.float64],
    norm: Normalize,
    name: str,
    title: str,
    label: str,
    caption: str,
) -> RenderedFigure:
    figure, panels = new_figure(14, 4.6, len(_FRAMES))
    for axes, (panel_title, frame) in zip(panels, _FRAMES.items(), strict=True):
        mapping = _panel(axes, data.orders, data.pixels, values, norm, frame)
        axes.set_title(panel_title)
    _colour_bar(figure, mapping, panels, norm, label)
    return render(figure, name, title, f"{caption} East is left.")


def _panel(
    axes: Any,
    orders: Ints,
    pixels: Ints,
    values: NDArray[np.float64],
    norm: Normalize,
    frame: str,
) -> ScalarMappable:
    """Draw a map of the values of pixels that tile the sky; return its colour scale."""
    projection = healpy.projector.MollweideProj(coord=frame, xsize=_WIDTH)
    image = projected(projection, orders, pixels, values)
    mapping = ScalarMappable(norm, colormaps[COLOUR_MAP].with_extremes(bad=NO_DATA))
    colours = mapping.to_rgba(np.ma.masked_invalid(image))
    colours[np.isneginf(image)] = 0  # transparent outside the sky
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
        projection: A projector of healpy, in any coordinate system.
        orders: Orders of the pixels, which are in nested order, in equatorial coordinates.
        pixels: Their nested numbers.
        values: Their values.

    Returns:
        The values at the points of the image, from south to north; minus infinity outside the sky.
    """
    finest = int(orders.max())
    starts = pixels << 2 * (finest - orders)

    def pixel_at(x: Any, y: Any, z: Any) -> Any:
        numbers = healpy.vec2pix(2**finest, x, y, z, nest=True)
        return np.searchsorted(starts, numbers, side="right") - 1

    return np.asarray(projection.projmap(values, pixel_at, coord="C"))


def _graticule(axes: Any, projection: Any) -> None:
    """Draw circles of latitude and longitude, labelled in degrees."""
    line = {"color": "white", "lw": 0.7, "alpha": 0.7}
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.6}
    text = {"fontsize": 11, "ha": "center", "va": "center", "bbox": halo}
    along = np.linspace(-179.99, 179.99, 181)
    for latitude in (-60, -30, 0, 30, 60):
        axes.plot(*_points(projection, along, np.full(181, float(latitude))), **line)
        if latitude:
            axes.text(*_points(projection, 0.0, float(latitude)), f"{latitude:+d}°", **text)
    for longitude in (-120, -60, 0, 60, 120):
        axes.plot(*_points(projection, np.full(181, float(longitude)), along / 2), **line)
        axes.text(*_points(projection, float(longitude), 0.0), f"{longitude % 360}°", **text)


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
