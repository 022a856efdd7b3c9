"""Maps of the whole sky in the Mollweide projection."""

from itertools import pairwise
from typing import Any

import healpy
import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from margin_cache.figures.style import plain_ticks

MAP_HEIGHT = 3.9  # inches, of a figure of two maps side by side
NO_DATA, FAULTLESS = "0.82", "#d6e6f5"
"""Colours of pixels without data, and of pixels without faults."""

_WIDTH = 1400  # of a map, in image points
_MAX_ORDER = 4  # of pixels that are large enough to be seen

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def order_norm(orders: Floats) -> Normalize:
    """Return a scale with one colour for each order."""
    known = orders[np.isfinite(orders)]
    bounds = np.arange(known.min(), known.max() + 2) - 0.5
    return BoundaryNorm(bounds, colormaps["viridis"].N)


def log_norm(values: Floats) -> Normalize:
    """Return a logarithmic scale, in which small values differ visibly too."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known):
        return Normalize(0, 1)
    least, most = float(known.min()), float(known.max())
    if most > least:
        return LogNorm(least, most)
    return BoundaryNorm([0.5 * least, 1.5 * least], colormaps["viridis"].N)


def draw_sky(
    axes: Any, orders: Ints, pixels: Ints, values: Floats, norm: Normalize, frame: str = "C"
) -> ScalarMappable:
    """Draw a map of values (NaN for no data) of pixels in equatorial coordinates.

    The pixels are in nested order and do not overlap. ``frame`` is the coordinate system of the
    map: C is equatorial, G is galactic. Returns the scale of the colours.
    """
    projection = healpy.projector.MollweideProj(coord=frame, xsize=_WIDTH)
    image = projected(projection, orders, pixels, values)
    mapping = ScalarMappable(norm, colormaps["viridis"].with_extremes(bad=NO_DATA))
    colours = mapping.to_rgba(np.ma.masked_invalid(image))
    _show(axes, projection, image, colours)
    return mapping


def draw_faults(axes: Any, orders: Ints, pixels: Ints, faults: Floats) -> ScalarMappable:
    """Draw a map of the numbers of faults of pixels, which are as those of `draw_sky`.

    Pixels without faults have a colour of their own; small ones with faults are drawn larger than
    they are.
    """
    projection = healpy.projector.MollweideProj(coord="C", xsize=_WIDTH)
    image = projected(projection, orders, pixels, faults)
    norm = LogNorm(1, max(10, np.max(faults, initial=0)))
    mapping = ScalarMappable(norm, colormaps["YlOrRd"].with_extremes(bad=NO_DATA))
    colours = mapping.to_rgba(np.ma.masked_where(~(image > 0), image))
    colours[image == 0] = to_rgba(FAULTLESS)
    _show(axes, projection, image, colours)
    small = np.flatnonzero((orders > _MAX_ORDER) & (faults > 0))
    small = small[np.argsort(faults[small])]  # the worst above the others
    places = healpy.pix2ang(2 ** orders[small], pixels[small], nest=True, lonlat=True)
    axes.scatter(*_points(projection, *places), s=30, c=mapping.to_rgba(faults[small]), zorder=3)
    return mapping


def _show(axes: Any, projection: Any, image: Floats, colours: Floats) -> None:
    colours[np.isneginf(image)] = 0  # transparent outside the sky
    axes.imshow(colours, extent=(-2, 2, -1, 1), origin="lower", interpolation="nearest")
    axes.add_patch(Ellipse((0, 0), 4, 2, facecolor="none", edgecolor="0.3", lw=1.6))
    _graticule(axes, projection)
    axes.set(xlim=(-2.03, 2.03), ylim=(-1.03, 1.03), aspect="equal")
    axes.axis("off")


def projected(projection: Any, orders: Ints, pixels: Ints, values: Floats) -> Floats:
    """Return an image of the sky, from south to north, by a projector of healpy.

    It is NaN between the pixels, which are as those of `draw_sky`, and minus infinity outside.
    """
    finest = int(orders.max())
    starts = pixels << 2 * (finest - orders)
    ends = (pixels + 1) << 2 * (finest - orders)

    def pixel_at(x: Any, y: Any, z: Any) -> Any:
        numbers = healpy.vec2pix(2**finest, x, y, z, nest=True)
        last = np.searchsorted(starts, numbers, side="right") - 1
        return np.where((last >= 0) & (numbers < ends[last]), last, len(values))

    return np.asarray(projection.projmap(np.append(values, np.nan), pixel_at, coord="C"))


def _graticule(axes: Any, projection: Any) -> None:
    """Draw circles of latitude and longitude, labelled in degrees."""
    line = {"color": "white", "lw": 0.7, "alpha": 0.7}
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.6}
    text = {"ha": "center", "va": "center", "bbox": halo, "zorder": 4}
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


def colour_bar(figure: Figure, mapping: ScalarMappable, panels: list[Any], label: str) -> None:
    bar = figure.colorbar(mapping, ax=panels, shrink=0.85, pad=0.01, aspect=18)
    bar.set_label(label)
    if isinstance(mapping.norm, BoundaryNorm):
        values = [(low + high) / 2 for low, high in pairwise(mapping.norm.boundaries)]
        bar.set_ticks(values, labels=[f"{value:,.6g}" for value in values])
    elif isinstance(mapping.norm, LogNorm):
        plain_ticks(bar.ax.yaxis)
