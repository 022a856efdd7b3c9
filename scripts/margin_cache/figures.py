"""The figures of reports and audits: their style, and maps of the whole sky."""

import io
from itertools import pairwise
from typing import Any

import healpy
import numpy as np
from matplotlib import colormaps, style
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

NO_DATA, FAULTLESS = "0.82", "#d6e6f5"
"""Colours of pixels without data, and of pixels without faults."""

MAP_HEIGHT = 3.9  # inches, of a figure of two maps side by side

_WIDTH = 14  # inches, of all figures, so that a page shows all letters in the same size
_DPI = 160
_MAP_WIDTH = 1400  # of a map, in image points
_MAX_ORDER = 4  # of pixels that are large enough to be seen

_STYLE: dict[str, Any] = {
    "font.size": 14,
    "axes.titlesize": "medium",
    "figure.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def new_figure(height: float, columns: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure of a height in inches, and its axes side by side."""
    style.use(_STYLE)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10, ... instead of powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def render(figure: Figure) -> bytes:
    """Return a figure as PNG, of the same bytes each time."""
    file = io.BytesIO()
    figure.savefig(file, dpi=_DPI, metadata={"Software": None}, facecolor="white")
    return file.getvalue()


def order_norm(orders: Floats) -> Normalize:
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
    mapping = ScalarMappable(norm, colormaps["viridis"].with_extremes(bad=NO_DATA))
    _show(axes, orders, pixels, mapping.to_rgba(np.ma.masked_invalid(values)), frame)
    return mapping


def draw_faults(axes: Any, orders: Ints, pixels: Ints, faults: Floats) -> ScalarMappable:
    """Draw a map of the numbers of faults of pixels, which are as those of `draw_sky`.

    Pixels without faults have a colour of their own; small ones with faults are drawn larger than
    they are.
    """
    norm = LogNorm(1, max(10, np.max(faults, initial=0)))
    mapping = ScalarMappable(norm, colormaps["YlOrRd"])
    colours = mapping.to_rgba(np.maximum(faults, 1))
    colours[faults == 0] = to_rgba(FAULTLESS)
    projection = _show(axes, orders, pixels, colours)
    small = np.flatnonzero((orders > _MAX_ORDER) & (faults > 0))
    small = small[np.argsort(faults[small])]  # the worst above the others
    positions = healpy.pix2ang(2 ** orders[small], pixels[small], nest=True, lonlat=True)
    axes.scatter(*_points(projection, *positions), s=30, c=colours[small], zorder=3)
    return mapping


def _show(axes: Any, orders: Ints, pixels: Ints, colours: Floats, frame: str = "C") -> Any:
    """Draw a map of pixels in colours (RGBA); return its projection."""
    colours = np.vstack([colours, to_rgba(NO_DATA), (0, 0, 0, 0)])
    palette = (255 * colours).round().astype(np.uint8)
    image = palette[pixels_on_map(orders, pixels, frame)]
    axes.imshow(image, extent=(-2, 2, -1, 1), origin="lower", interpolation="nearest")
    axes.add_patch(Ellipse((0, 0), 4, 2, facecolor="none", edgecolor="0.3", lw=1.6))
    projection = healpy.projector.MollweideProj()
    _graticule(axes, projection)
    axes.set(xlim=(-2.03, 2.03), ylim=(-1.03, 1.03), aspect="equal")
    axes.axis("off")
    return projection


def pixels_on_map(
    orders: Ints, pixels: Ints, frame: str = "C", width: int = _MAP_WIDTH
) -> NDArray[np.int32]:
    """Return which of n pixels, as those of `draw_sky`, is at each point of a map.

    It has the shape (width / 2, width), from south to north, with n between the pixels and n + 1
    outside the sky.
    """
    finest = int(orders.max())
    starts = pixels << 2 * (finest - orders)
    ends = (pixels + 1) << 2 * (finest - orders)
    projection, rotator = healpy.projector.MollweideProj(), healpy.Rotator(coord=[frame, "C"])
    image = np.full((width // 2, width), len(pixels) + 1, np.int32)
    x = np.linspace(-2, 2, width)
    # All lines at once would need 80 MB.
    for line, y in zip(image, np.linspace(-1, 1, len(image)), strict=True):
        is_sky = x**2 / 4 + y**2 <= 1
        on_sky = x[is_sky]
        vectors = rotator(projection.xy2vec(on_sky, np.full_like(on_sky, y), direct=True))
        numbers = healpy.vec2pix(2**finest, *vectors, nest=True)
        last = np.searchsorted(starts, numbers, side="right") - 1
        line[is_sky] = np.where((last >= 0) & (numbers < ends[last]), last, len(pixels))
    return image


def _graticule(axes: Any, projection: Any) -> None:
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
