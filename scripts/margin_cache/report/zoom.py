"""One partition with the rows of its margin."""

from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.healpix.nested import Ints, Pixel
from margin_cache.margin.model import Margin
from margin_cache.parquet.footers import column_ranges
from margin_cache.report.data import ReportData
from margin_cache.report.style import (
    MARGIN,
    OTHER,
    PRIMARY,
    RenderedFigure,
    new_figure,
    placeholder_figure,
    render,
)
from margin_cache.storage.local_listing import fetch_ranges
from margin_cache.storage.parquet_files import open_parquet

_NAME = "partition"
_MAX_POINTS = 20_000  # of a plot
_MAX_OUTLINES = 400
_MAX_FILES = 16  # of other partitions
_POLAR_LATITUDE = 60  # deg

Points = NDArray[np.float64]
"""Right ascensions and declinations in degrees, shape (2, n)."""


def choose_partition(data: ReportData) -> int | None:
    """Return the number of the destination to draw, or None if no partition has margin rows.

    Partitions near the poles come last, as right ascensions distort them. Of the others it is one
    of the smallest, whose margin is relatively widest, and of these the one with most margin rows.
    """
    latitudes = healpy.pix2ang(2**data.orders, data.pixels, nest=True, lonlat=True)[1]
    is_suitable = ~data.is_negative & (data.margin_rows > 0)
    if not is_suitable.any():
        return None
    is_away_from_poles = np.abs(latitudes) < _POLAR_LATITUDE
    return int(np.lexsort((data.margin_rows, data.orders, is_away_from_poles, is_suitable))[-1])


def draw_partition(margin: Margin, data: ReportData) -> RenderedFigure:
    """Draw the partition of `choose_partition` and its margin."""
    number = choose_partition(data)
    if number is None:
        title = "A partition and its margin"
        return placeholder_figure(_NAME, title, "No partition has margin rows.")
    plan, info = margin.plan, margin.plan.parameters.catalog
    pixel = plan.destination(number)
    columns = [info.ra_column, info.dec_column]
    own = np.hstack([_positions(file, columns) for file in partition_files(info, pixel)])
    margin_points = _positions(margin.files.output_dir / plan.margin_path(number), columns)
    outline = _outline(pixel)
    reference = float(outline[0, 0])

    def unwrap(points: Points) -> Points:
        """Return points with right ascensions within 180 degrees of the reference."""
        return np.array([(points[0] - reference + 180) % 360 - 180 + reference, points[1]])

    outline = unwrap(outline)
    size = np.ptp(outline, axis=1)
    centre = (outline.min(axis=1) + outline.max(axis=1)) / 2
    margin_width = data.threshold / 3600 / np.array([np.cos(np.deg2rad(centre[1])), 1])
    half = np.maximum(0.5 * size + 1.6 * margin_width, 0.58 * size)
    neighbours = _nearest(data, number)
    figure, (axes,) = new_figure(9, 8)
    for partition in neighbours[~data.is_negative[neighbours]][1 : _MAX_FILES + 1]:
        for file in partition_files(info, plan.destination(partition)):
            points = unwrap(_positions(file, columns))
            is_visible = (np.abs(points.T - centre) < half).all(axis=1)
            axes.plot(*_thinned(points[:, is_visible]), ".", color=OTHER, ms=4, zorder=1)
    axes.plot([], [], ".", color=OTHER, ms=4, label="other rows")
    axes.plot(*unwrap(_thinned(own)), ".", color=PRIMARY, ms=5, label="rows of the partition")
    axes.plot(*unwrap(_thinned(margin_points)), "o", color=MARGIN, ms=5, label="rows of its margin")
    for neighbour in neighbours[:_MAX_OUTLINES]:
        edge = unwrap(_outline(plan.destination(neighbour)))
        if np.abs(np.diff(edge[0])).max() < 180:
            axes.plot(*edge, color="0.5", lw=1)
    axes.plot(*outline, color=PRIMARY, lw=2.2)
    axes.set_xlim(centre[0] + half[0], centre[0] - half[0])
    axes.set_ylim(centre[1] - half[1], centre[1] + half[1])
    axes.set_aspect(1 / np.cos(np.deg2rad(centre[1])))
    axes.set_xlabel("right ascension (deg)")
    axes.set_ylabel("declination (deg)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, markerscale=2)
    title = (
        f"Order {pixel.order}, pixel {pixel.number}, with its margin of {data.threshold:g} arcsec"
    )
    rows = f"{own.shape[1]} rows, {margin_points.shape[1]} in the margin."
    return render(figure, _NAME, title, f"{rows} Lines: boundaries of pixels.")


def _positions(path: Path, columns: list[str]) -> Points:
    fetch_ranges(path, column_ranges(open_parquet(path), columns))
    table: Any = pq.ParquetFile(path).read(columns)
    return np.array([table[column].to_numpy() for column in columns], dtype=np.float64)


def _thinned(points: Points) -> Points:
    """Return every n-th point, so that fewer than twice _MAX_POINTS are left."""
    return points[:, :: max(1, points.shape[1] // _MAX_POINTS)]


def _outline(pixel: Pixel) -> Points:
    corners = healpy.boundaries(2**pixel.order, pixel.number, step=64, nest=True)
    return np.array(healpy.vec2ang(np.hstack([corners, corners[:, :1]]).T, lonlat=True))


def _nearest(data: ReportData, number: int) -> Ints:
    """Return all destinations, sorted by the distance of their centres; the given one is first."""
    centres = np.transpose(healpy.pix2vec(2**data.orders, data.pixels, nest=True))
    return np.argsort(-(centres @ centres[number]), kind="stable")
