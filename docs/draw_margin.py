"""Draw a partition of a HiPSCat catalog and the rows of its margin: the figure in README.md."""

import argparse
from pathlib import Path

import healpy
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

ARCSEC_PER_DEGREE = 3600.0


def outline(order: int, pixel: int) -> NDArray[np.float64]:
    """Return points on a pixel's boundary as longitude and latitude [deg], shape (2, n)."""
    corners = healpy.boundaries(2**order, pixel, step=64, nest=True)
    return np.array(healpy.vec2ang(np.hstack([corners, corners[:, :1]]).T, lonlat=True))


def positions(table: pa.Table, columns: tuple[str, str]) -> NDArray[np.float64]:
    """Return right ascension and declination [deg], shape (2, n)."""
    return np.array([table[column].to_numpy() for column in columns])


def pixel_file(catalog: Path, order: int, pixel: int) -> Path:
    return catalog / f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"


def draw(catalog: Path, margin: Path, order: int, pixel: int, picture: Path) -> None:
    columns = ("ra", "dec")
    files = sorted(catalog.glob("Norder=*/Dir=*/Npix=*.parquet"))
    sky = positions(ds.dataset(files).to_table(list(columns)), columns)
    own = positions(pq.ParquetFile(pixel_file(catalog, order, pixel)).read(columns), columns)
    near = positions(pq.ParquetFile(pixel_file(margin, order, pixel)).read(columns), columns)
    border = outline(order, pixel)
    middle = border.mean(axis=1)

    def near_middle(points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move right ascensions to within 180 degrees of the middle of the figure."""
        return np.array([(points[0] - middle[0] + 180) % 360 - 180 + middle[0], points[1]])

    figure, axes = plt.subplots(figsize=(7.2, 6.4), dpi=110, layout="constrained")
    axes.plot(*near_middle(sky), ".", color="0.72", ms=3, label="other stars")
    axes.plot(*near_middle(own), ".", color="#1f5fa8", ms=5, label="stars of the partition")
    axes.plot(*near_middle(near), "o", color="#d9541e", ms=5, label="stars of its margin")
    for file in files:
        cell = int(file.parts[-3].removeprefix("Norder=")), int(file.stem.removeprefix("Npix="))
        edge = near_middle(outline(*cell))
        if np.abs(np.diff(edge[0])).max() < 180:
            axes.plot(*edge, color="0.55", lw=0.8)
    axes.plot(*border, color="#1f5fa8", lw=1.6)
    extent = 0.68 * np.ptp(border, axis=1)
    axes.set_xlim(middle[0] + extent[0], middle[0] - extent[0])
    axes.set_ylim(middle[1] - extent[1], middle[1] + extent[1])
    axes.set_aspect(1 / np.cos(np.deg2rad(middle[1])))
    axes.set_xlabel("right ascension (deg)")
    axes.set_ylabel("declination (deg)")
    counts = f"{own.shape[1]} stars, {near.shape[1]} in its margin"
    axes.set_title(f"Order {order}, pixel {pixel}: {counts}")
    axes.legend(loc="upper right", framealpha=0.95)
    figure.savefig(picture, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("margin", type=Path)
    parser.add_argument("order", type=int)
    parser.add_argument("pixel", type=int)
    parser.add_argument("picture", type=Path)
    draw(**vars(parser.parse_args()))
