"""The figures of a report: sky maps, histograms, costs, and one partition with a zoom."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import healpy
import numpy as np
import pyarrow.parquet as pq
from matplotlib.colors import Normalize
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.figures import (
    MAP_HEIGHT,
    MARGIN,
    OTHER,
    PRIMARY,
    RenderedFigure,
    colour_bar,
    draw_sky,
    log_norm,
    new_figure,
    order_norm,
    placeholder_figure,
    plain_ticks,
    render,
)
from margin_cache.healpix.boundary import distance_to_pixel
from margin_cache.healpix.nested import ARCSEC_PER_RADIAN, Ints, Pixel, resolution
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import FIGURES
from margin_cache.notification.messages import counted
from margin_cache.report.data import ReportData, StageCosts

_FRAMES = {"equatorial": "C", "galactic": "G"}
_BINS = 24
_LOG_RATIO = 5  # of the largest to the smallest value, from which on an axis is logarithmic
_JITTER = 0.28  # of the points of a stage, so that they do not hide one another
_COLOURS = (PRIMARY, MARGIN, "#4d4d4d")

_MAX_POINTS = 20_000  # of a plot
_MAX_OUTLINES = 400
_MAX_FILES = 16  # of other partitions
_STEPS, _FINE_STEPS = 32, 4096  # of a side of an outline; in a small zoom
_ZOOM = (1.5, 3)  # thresholds from the centre of the zoom to its sides, if they are large or small
_GRID = 240  # points of a side of a window
_AREA = "#fbe3d6"
_UNITS = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0}

Floats = NDArray[np.float64]
"""Unit vectors of shape (n, 3), or coordinates in a window of shape (2, n)."""


def draw_maps(data: ReportData) -> list[RenderedFigure]:
    """Draw maps of the orders of partitions, of margin rows, and of their ratio to own rows."""
    rows = np.where(data.margin_rows > 0, data.margin_rows, np.nan)
    share = 100 * rows / np.where(data.primary_rows > 0, data.primary_rows, np.nan)
    no_share = "no margin rows, or no rows of its own"
    orders = np.where(data.is_negative, np.nan, data.orders)
    return [
        _draw_map(data, "orders", orders, order_norm(orders), "order", "outside the catalog"),
        _draw_map(data, "margin_rows", rows, log_norm(rows), "rows", "no margin rows"),
        _draw_map(data, "margin_share", share, log_norm(share), "%", no_share),
    ]


def _draw_map(
    data: ReportData, name: str, values: Floats, norm: Normalize, unit: str, grey: str
) -> RenderedFigure:
    figure, panels = new_figure(MAP_HEIGHT, len(_FRAMES))
    for axes, (title, frame) in zip(panels, _FRAMES.items(), strict=True):
        mapping = draw_sky(axes, data.orders, data.pixels, values, norm, frame)
        axes.set_title(title)
    if np.isfinite(values).any():
        colour_bar(figure, mapping, panels, unit)
    return render(figure, name, FIGURES[name], f"Grey: {grey}. East is left.")


def draw_histograms(data: ReportData) -> RenderedFigure:
    """Draw histograms of the numbers of rows and the sizes of a margin's files."""
    has_file = data.margin_bytes > 0
    if not has_file.any():
        return placeholder_figure("histograms", FIGURES["histograms"], "The margin has no files.")
    figure, (rows, sizes) = new_figure(4, 2)
    for axes, values, label in (
        (rows, data.margin_rows[has_file].astype(float), "rows of a file"),
        (sizes, data.margin_bytes[has_file] / 1000, "size of a file (kB)"),
    ):
        is_log = values.max() > _LOG_RATIO * values.min()
        spacing = np.geomspace if is_log else np.linspace
        bounds = spacing(values.min() / 1.05, values.max() * 1.05, _BINS + 1)
        axes.hist(values, bins=bounds, color=PRIMARY, edgecolor="white", lw=0.6)
        median = float(np.median(values))
        axes.axvline(median, color=MARGIN, lw=2.5, label=f"median {median:.4g}")
        if is_log:
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
        elif axes is rows:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(frameon=False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(label)
        axes.set_ylabel("files")
    caption = f"All files of the margin: {int(has_file.sum()):,}."
    return render(figure, "histograms", FIGURES["histograms"], caption)


def draw_costs(costs: Sequence[StageCosts]) -> RenderedFigure | None:
    """Draw time and memory of the jobs of each stage; None if no stage has several jobs."""
    if all(len(stage.seconds) == 1 for stage in costs):
        return None
    figure, panels = new_figure(0.8 + 0.7 * len(costs), 2)
    rng = np.random.default_rng(1)
    for axes, label, values in (
        (panels[0], "seconds of a job", [stage.seconds for stage in costs]),
        (panels[1], "memory of a job (MB)", [stage.memory_mb for stage in costs]),
    ):
        for line, (jobs, colour) in enumerate(zip(values, _COLOURS, strict=False)):
            known = jobs[np.isfinite(jobs)]
            heights = line + rng.uniform(-_JITTER, _JITTER, len(known))
            axes.plot(known, heights, "o", ms=6, alpha=0.6, color=colour, mec="none")
            median = float(np.median(known)) if len(known) else np.nan
            axes.plot([median] * 2, [line - 0.38, line + 0.38], color="black", lw=2.5)
        axes.set_yticks(range(len(costs)), [stage.stage for stage in costs])
        axes.set_ylim(len(costs) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    caption = (
        "Each point is a job, each line a median. The memory of very short jobs is unknown and not "
        "drawn, or measured too low."
    )
    return render(figure, "costs", "Time and memory of the jobs", caption)


@dataclass(frozen=True)
class Window:
    """A square of the sky, in Lambert's equal-area projection.

    Attributes:
        basis: unit vectors to the east, to the north, and to the centre.
        half: half of a side, in arcsec.
    """

    basis: Floats
    half: float

    @property
    def unit(self) -> tuple[str, float]:
        """A unit in which the size of the window is a handy number, and its arcsec."""
        return next((item for item in _UNITS.items() if self.half < 60 * item[1]), ("deg", 3600.0))

    def project(self, vectors: Floats) -> Floats:
        """Return the offsets from the centre to the east and north, in arcsec."""
        east, north, centre = self.basis @ vectors.T
        return np.array([east, north]) * np.sqrt(2 / (1 + centre)) * ARCSEC_PER_RADIAN

    def unproject(self, offsets: Floats) -> Floats:
        scaled = offsets / ARCSEC_PER_RADIAN
        squares = np.minimum((scaled**2).sum(axis=0), 4)
        east, north = scaled * np.sqrt(1 - squares / 4)
        return np.transpose([east, north, 1 - squares / 2]) @ self.basis


def window_at(centre: Floats, half: float) -> Window:
    east = np.cross([0, 0, 1], centre)
    east = east / np.linalg.norm(east) if east.any() else np.array([0.0, 1, 0])
    return Window(np.array([east, np.cross(centre, east), centre]), half)


def choose_partition(data: ReportData) -> int | None:
    """Return the number of the destination to draw, or None if no partition has margin rows.

    Of the destinations with the highest order, it is the one with most margin rows.
    """
    is_suitable = ~data.is_negative & (data.margin_rows > 0)
    if not is_suitable.any():
        return None
    return int(np.lexsort((data.margin_rows, data.orders, is_suitable))[-1])


def choose_border(pixel: Pixel, margin_rows: Floats, half: float) -> Window:
    """Return a window at the border of a pixel, where its margin has most rows."""
    order = next((n for n in range(29) if resolution(n) < half), 29)
    cells = healpy.vec2pix(2**order, *margin_rows.T, nest=True)
    _, inverse, counts = np.unique(cells, return_inverse=True, return_counts=True)
    place = margin_rows[np.argmax(counts[inverse])]
    outline = _outline(pixel, _FINE_STEPS)
    starts, lines = outline[:-1], np.diff(outline, axis=0)
    along = ((place - starts) * lines).sum(axis=1) / (lines**2).sum(axis=1)
    feet = starts + np.clip(along, 0, 1)[:, None] * lines
    nearest = feet[np.argmin(np.linalg.norm(feet - place, axis=1))]
    return window_at(nearest / np.linalg.norm(nearest), half)


def draw_partition(margin: Margin, data: ReportData) -> RenderedFigure:
    """Draw the partition of `choose_partition` and its margin, and a zoom at its border."""
    title, number = FIGURES["partition"], choose_partition(data)
    if number is None:
        return placeholder_figure("partition", title, "No partition has margin rows.")
    plan, info = margin.plan, margin.plan.parameters.catalog
    pixel = plan.destination(number)
    columns = [info.ra_column, info.dec_column]

    def rows_of(partitions: Ints) -> Floats:
        pixels = map(plan.destination, partitions)
        paths = [path for pixel in pixels for path in partition_files(info, pixel)]
        files = map(info.files.open_parquet, paths)
        return np.concatenate([np.empty((0, 3)), *(_vectors(file, columns) for file in files)])

    nearest = _nearest(data, number)
    own = rows_of(nearest[:1])
    margin_rows = _vectors(margin.output.open_parquet(plan.margin_path(number)), columns)
    layers = {
        "other rows": (rows_of(nearest[1:][~data.is_negative[nearest[1:]]][:_MAX_FILES]), OTHER, 4),
        "rows of the partition": (own, PRIMARY, 5),
        "rows of its margin": (margin_rows, MARGIN, 7),
    }
    corners = healpy.boundaries(2**pixel.order, pixel.number, nest=True).T
    centre = corners.sum(axis=0) / np.linalg.norm(corners.sum(axis=0))
    extent = np.abs(window_at(centre, 0).project(corners)).max()
    least, most = (factor * data.threshold for factor in _ZOOM)
    zoom_half = min(max(extent / 2, least), most)
    whole = window_at(centre, max(1.15 * extent, extent + 1.05 * zoom_half))
    zoom = choose_border(pixel, margin_rows, zoom_half)
    zoom_steps = _FINE_STEPS if zoom_half < extent / 16 else _STEPS
    figure, panels = new_figure(7.8, 2)
    for axes, window, steps, outlines in (
        (panels[0], whole, _STEPS, _MAX_OUTLINES),
        (panels[1], zoom, zoom_steps, _MAX_FILES),
    ):
        fill_area(axes, window, pixel, data.threshold)
        for other in nearest[:outlines]:
            _draw_line(axes, window, _outline(plan.destination(other), steps), "0.5", 1)
        _draw_line(axes, window, _outline(pixel, steps), PRIMARY, 2.2)
        for label, (vectors, colour, size) in layers.items():
            rows = window.project(vectors)
            rows = rows[:, (np.abs(rows) < window.half).all(axis=0)] / window.unit[1]
            rows = rows[:, :: max(1, rows.shape[1] // _MAX_POINTS)]
            axes.plot(*rows, "o", mec="none", color=colour, ms=size, label=label)
        _label_axes(axes, window)
    panels[0].set_title(f"order {pixel.order}, pixel {pixel.number}")
    panels[1].set_title("one of its borders (the black square)")
    _draw_square(panels[0], whole, zoom)
    area = Patch(color=_AREA, label=f"within {data.threshold:g} arcsec")
    handles = [*panels[0].get_legend_handles_labels()[0], area]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    caption = (
        f"{counted(len(own), 'row', ',')}, {len(margin_rows):,} in the margin of "
        f"{data.threshold:g} arcsec. Other rows are those of the nearest "
        f"{_MAX_FILES} partitions at most. Lines: boundaries of pixels."
    )
    return render(figure, "partition", title, caption)


def _vectors(file: pq.ParquetFile, columns: list[str]) -> Floats:
    table: Any = file.read(columns)
    positions = [table[column].to_numpy().astype(np.float64) for column in columns]
    return healpy.ang2vec(*positions, lonlat=True).reshape(-1, 3)


def _outline(pixel: Pixel, steps: int) -> Floats:
    outline = healpy.boundaries(2**pixel.order, pixel.number, step=steps, nest=True).T
    return np.concatenate([outline, outline[:1]])


def _nearest(data: ReportData, number: int) -> Ints:
    """Return all destinations, sorted by the distance of their centres; the given one is first."""
    centres = np.transpose(healpy.pix2vec(2**data.orders, data.pixels, nest=True))
    return np.argsort(-(centres @ centres[number]), kind="stable")


def _draw_line(axes: Any, window: Window, outline: Floats, colour: str, width: float) -> None:
    if (outline @ window.basis[2]).min() > -0.9:  # others would cross the whole picture
        axes.plot(*window.project(outline) / window.unit[1], color=colour, lw=width)


def fill_area(axes: Any, window: Window, pixel: Pixel, threshold: float) -> None:
    """Fill the area outside a pixel that is within the threshold of it."""
    side = np.linspace(-window.half, window.half, _GRID)
    points = window.unproject(np.array(np.meshgrid(side, side)).reshape(2, -1))
    lon, lat = healpy.vec2ang(points, lonlat=True)
    distances = distance_to_pixel(lon, lat, *pixel)
    is_inside = healpy.vec2pix(2**pixel.order, *points.T, nest=True) == pixel.number
    distances = np.where(is_inside, -distances, distances).reshape(_GRID, _GRID)
    scaled = side / window.unit[1]
    axes.contourf(scaled, scaled, distances, levels=[0, threshold], colors=[_AREA])


def _draw_square(axes: Any, window: Window, zoom: Window) -> None:
    """Mark the place of the zoom by a square, which is larger than the zoom if that is tiny."""
    half = max(zoom.half, window.half / 40) / window.unit[1]
    ((x,), (y,)) = window.project(zoom.basis[2:]) / window.unit[1]
    axes.add_patch(Rectangle((x - half, y - half), 2 * half, 2 * half, fill=False, lw=2, zorder=3))


def _label_axes(axes: Any, window: Window) -> None:
    unit, size = window.unit
    half = window.half / size
    ra, dec = healpy.vec2ang(window.basis[2], lonlat=True)
    axes.set(xlim=(half, -half), ylim=(-half, half), aspect="equal")
    axes.set_xlabel(f"east of RA {round(float(ra[0]), 4) % 360:.4f}° ({unit})")
    axes.set_ylabel(f"north of Dec {dec[0]:.4f}° ({unit})")
