"""A partition with the rows of its margin."""

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
from margin_cache.report.contents import ReportData
from margin_cache.report.style import (
    MARGIN,
    OTHER,
    PRIMARY,
    RenderedFigure,
    drawn,
    new_figure,
    placeholder_figure,
)
from margin_cache.storage.local_listing import fetch_ranges
from margin_cache.storage.parquet_files import open_parquet

_MOST_POINTS = 20_000
_MOST_NEIGHBOURS = 400
_MOST_FILES = 16
_POLAR = 60  # [deg]

Points = NDArray[np.float64]


def choose_partition(contents: ReportData) -> int | None:
    """Return the destination that is drawn, or None if no partition has margin rows.

    Of the partitions away from the poles, where right ascensions make no picture: one of the
    smallest, beside which the margin is widest, and of these the one with the most margin rows.
    """
    latitudes = healpy.pix2ang(2**contents.orders, contents.pixels, nest=True, lonlat=True)[1]
    is_fit = ~contents.is_negative & (contents.margin_rows > 0)
    if not is_fit.any():
        return None
    ranks = (contents.margin_rows, contents.orders, np.abs(latitudes) < _POLAR, is_fit)
    return int(np.lexsort(ranks)[-1])


def draw_no_partition() -> RenderedFigure:
    """Return what stands there if no partition has margin rows."""
    return placeholder_figure(
        "partition", "A partition and its margin", "No partition has margin rows."
    )


def draw_zoom(margin: Margin, contents: ReportData, number: int) -> RenderedFigure:
    """Return a picture of a partition and its margin.

    Args:
        margin: the margin.
        contents: what its report is about.
        number: the destination that is drawn.
    """
    info = margin.plan.parameters.catalog
    pixel = margin.plan.destination(number)
    columns = [info.ra_column, info.dec_column]
    own = np.hstack([_positions(file, columns) for file in partition_files(info, pixel)])
    near = _positions(margin.files.output_dir / margin.plan.margin_path(number), columns)
    border = _outline(pixel)
    middle = float(border[0, 0])

    def beside(points: Points) -> Points:
        """Return points with right ascensions within 180 degrees of the middle."""
        return np.array([(points[0] - middle + 180) % 360 - 180 + middle, points[1]])

    border = beside(border)
    size, centre = np.ptp(border, axis=1), (border.min(axis=1) + border.max(axis=1)) / 2
    margin_width = contents.threshold / 3600 / np.array([np.cos(np.deg2rad(centre[1])), 1])
    half = np.maximum(0.5 * size + 1.6 * margin_width, 0.58 * size)
    figure, (axes,) = new_figure(9, 8)
    for file in _files_around(margin, contents, number):
        points = beside(_positions(file, columns))
        is_visible = (np.abs(points.T - centre) < half).all(axis=1)
        axes.plot(*_some(points[:, is_visible]), ".", color=OTHER, ms=4, zorder=1)
    axes.plot([], [], ".", color=OTHER, ms=4, label="other rows")
    axes.plot(*beside(_some(own)), ".", color=PRIMARY, ms=5, label="rows of the partition")
    axes.plot(*beside(_some(near)), "o", color=MARGIN, ms=5, label="rows of its margin")
    for edge in map(beside, _neighbours(margin, contents, number)):
        if np.abs(np.diff(edge[0])).max() < 180:
            axes.plot(*edge, color="0.5", lw=1)
    axes.plot(*border, color=PRIMARY, lw=2.2)
    axes.set_xlim(centre[0] + half[0], centre[0] - half[0])
    axes.set_ylim(centre[1] - half[1], centre[1] + half[1])
    axes.set_aspect(1 / np.cos(np.deg2rad(centre[1])))
    axes.set_xlabel("right ascension (deg)")
    axes.set_ylabel("declination (deg)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, markerscale=2)
    drawn_pixel = f"Order {pixel.order}, pixel {pixel.number}"
    title = f"{drawn_pixel}, with its margin of {contents.threshold:g} arcsec"
    caption = f"{own.shape[1]} rows, {near.shape[1]} in the margin. Lines: borders of pixels."
    return drawn(figure, "partition", title, caption)


def _positions(path: Path, columns: list[str]) -> Points:
    fetch_ranges(path, column_ranges(open_parquet(path), columns))
    table: Any = pq.ParquetFile(path).read(columns)
    return np.array([table[column].to_numpy() for column in columns], dtype=np.float64)


def _some(points: Points) -> Points:
    """Return points, evenly fewer if they are too many to be seen."""
    return points[:, :: max(1, points.shape[1] // _MOST_POINTS)]


def _outline(pixel: Pixel) -> Points:
    corners = healpy.boundaries(2**pixel.order, pixel.number, step=64, nest=True)
    return np.array(healpy.vec2ang(np.hstack([corners, corners[:, :1]]).T, lonlat=True))


def _neighbours(margin: Margin, contents: ReportData, number: int) -> list[Points]:
    """Return the outlines of the pixels whose centres lie nearest."""
    nearest = _nearest(contents, number)[:_MOST_NEIGHBOURS]
    return [_outline(margin.plan.destination(pixel)) for pixel in nearest]


def _files_around(margin: Margin, contents: ReportData, number: int) -> list[Path]:
    """Return the files of the partitions whose centres lie nearest, but the partition's own."""
    nearest = _nearest(contents, number)
    others = nearest[~contents.is_negative[nearest]][1 : _MOST_FILES + 1]
    info = margin.plan.parameters.catalog
    return [
        file
        for partition in others
        for file in partition_files(info, margin.plan.destination(partition))
    ]


def _nearest(contents: ReportData, number: int) -> Ints:
    """Return the destinations by the distance of their centres from that of one, itself first."""
    places = np.transpose(healpy.pix2vec(2**contents.orders, contents.pixels, nest=True))
    distances = places @ places[number]
    return np.argsort(-distances, kind="stable")
