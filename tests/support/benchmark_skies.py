"""The skies of the benchmark, with the true rows of their margins.

A sky is a directory with the same rows as a HATS catalog, ``hats/SKY``, and, where a peer reads
nothing else, as a HiPSCat catalog, ``hipscat/SKY``; and with ``truth.npz``, the margin rows that
the oracle of the tests finds.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from support import oracle, skies, sky_catalogs
from support.write_hats import write_hats
from support.write_hipscat import write_hipscat

IntArray = npt.NDArray[np.int64]

Rows = tuple[pa.Table, IntArray]


@dataclass(frozen=True)
class Sky:
    """A sky of the benchmark.

    Attributes:
        make: makes its rows and its partitions, as [order, pixel] of shape (n, 2).
        threshold: of its margin, in arcsec.
        hipscat: whether it is written as HiPSCat as well.
        row_group_rows: most rows of a row group; one row group a file if None.
    """

    make: Callable[[], Rows]
    threshold: float
    hipscat: bool = False
    row_group_rows: int | None = None


def survey(rows: int, columns: int, max_rows: int | None = None) -> Rows:
    """Half the rows uniform, half along a band; orders 2 and 3, or from 1 on with max_rows."""
    table = sky_catalogs.survey_sky(rows, columns)
    if max_rows is None:
        return table, sky_catalogs.survey_partitions(table)
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    return table, skies.adaptive_partitions(ra, dec, max_rows=max_rows, min_order=1)


# Pixels of order 4 around the centre of a base face.
WIDE_PIXELS = np.array([63, 106, 149, 192, 62, 104, 151, 193])
WIDE_ROWS = 500_000  # of a partition
WIDE_FLOATS = 136


def wide() -> Rows:
    """A patch of 8 partitions of 500,000 rows and 150 columns, strings and light curves too."""
    rng = np.random.default_rng(4)
    partitions = skies.nested_sort(np.column_stack([np.full(8, 4), WIDE_PIXELS]))
    count = len(partitions) * WIDE_ROWS
    at = np.repeat(partitions, WIDE_ROWS, axis=0)
    ra, dec = skies.pixel_positions(at, rng.uniform(0, 1, count), rng.uniform(0, 1, count))
    kept = skies.inside(skies.nested_pixels(ra, dec), partitions)  # rounding moves some across
    ra, dec = ra[kept], dec[kept]
    count = len(ra)
    columns: dict[str, pa.Array] = {"id": pa.array(np.arange(count)), "ra": pa.array(ra)}
    columns["dec"] = pa.array(dec)
    for number in range(WIDE_FLOATS):
        # Catalogs have few digits: magnitudes to the millimagnitude, fluxes as single floats.
        values = rng.normal(20.0, 2.0, count)
        kind = (np.float64, np.float32)[number % 2]
        columns[f"float_{number:03d}"] = pa.array(values.astype(kind))
    for number in range(4):
        columns[f"flags_{number}"] = pa.array(rng.integers(0, 1 << 16, count, dtype=np.int32))
    for number in range(5):
        words = pa.array([f"tile_{word:05d}" for word in range(10 ** (number + 1) // 2)])
        columns[f"name_{number}"] = words.take(pa.array(rng.integers(0, len(words), count)))
    lengths = rng.integers(0, 6, count)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    total = int(lengths.sum())
    curves = [
        pa.ListArray.from_arrays(offsets, pa.array(values))
        for values in (rng.uniform(6e4, 6.3e4, total), rng.normal(20, 2, total).astype(np.float32))
    ]
    columns["light_curve"] = pa.StructArray.from_arrays(curves, ["time", "mag"])
    columns["distances"] = pa.ListArray.from_arrays(offsets, pa.array(rng.uniform(0, 1, total)))
    return pa.table(columns), partitions


SPLIT, LEFT_OUT = 539, 33
SMALL_ROWS = 1_200_000


def many() -> Rows:
    """2,352 small partitions of orders 3 and 4, beside which 33 pixels are empty."""
    centres = skies.pixel_positions(
        np.column_stack([np.full(768, 3), np.arange(768)]), np.full(768, 0.5), np.full(768, 0.5)
    )
    height = np.abs(skies.vectors_from_sky(*centres) @ skies.vectors_from_sky(*_pole())[0])
    nearest = np.argsort(height, kind="stable")
    split, whole = np.sort(nearest[:SPLIT]), nearest[SPLIT:]
    # One of four siblings each, so that no two of them make one larger empty pixel.
    _, first = np.unique(whole // 4, return_index=True)
    whole = np.delete(whole, first[:LEFT_OUT])
    partitions = skies.nested_sort(
        np.concatenate(
            [
                np.column_stack([np.full(len(whole), 3), whole]),
                np.column_stack(
                    [np.full(4 * SPLIT, 4), (4 * split[:, None] + np.arange(4)).ravel()]
                ),
            ]
        )
    )
    table = sky_catalogs.survey_sky(SMALL_ROWS, 10)
    pixels = skies.nested_pixels(table["ra"].to_numpy(), table["dec"].to_numpy())
    return table.filter(pa.array(skies.inside(pixels, partitions))), partitions


def _pole() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return tuple(np.array([angle]) for angle in sky_catalogs.BAND_POLE)


SKIES = {
    "small": Sky(lambda: survey(500_000, 31, 12_000), 10.0, hipscat=True),
    "survey": Sky(lambda: survey(2_000_000, 31), 10.0, hipscat=True),
    "large": Sky(lambda: survey(20_000_000, 30, 400_000), 10.0),
    "wide": Sky(wide, 10.0),
    "wide_groups": Sky(wide, 10.0, row_group_rows=50_000),
    "many": Sky(many, 60.0, hipscat=True),
}


def make_sky(name: str, directory: Path) -> None:
    """Write a sky into a directory, unless it is there."""
    if (directory / "sky.json").exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    sky = SKIES[name]
    table, partitions = sky.make()
    # Parquet's own limit, a million rows, is more than any partition has.
    write_hats(directory / "hats", name, table, partitions, row_group_size=sky.row_group_rows)
    if sky.hipscat:
        write_hipscat(
            directory / "hipscat", name, table, partitions, row_group_size=sky.row_group_rows
        )
    lon, lat = table["ra"].to_numpy(), table["dec"].to_numpy()
    ids, columns = table["id"].to_numpy(), table.num_columns
    del table
    partitions = partitions_with_rows(directory / "hats" / name)
    home = np.searchsorted(
        skies.pixel_spans(partitions)[0], skies.nested_pixels(lon, lat), side="right"
    )
    destinations = np.concatenate([partitions, oracle.negative_pixels(partitions)])
    rows, places, ambiguous = oracle.brute_force_margin(
        lon, lat, home - 1, partitions, destinations, sky.threshold
    )
    if len(ambiguous):
        raise ValueError(f"{len(ambiguous)} rows are too close to the threshold to be decided")
    truth = codes(destinations[places], ids[rows])
    np.savez(directory / "truth.npz", codes=np.sort(truth))
    files = (directory / "hats").rglob("Npix=*.parquet")
    about = {
        "rows": len(ids),
        "columns": columns,
        "partitions": len(partitions),
        "megabytes": round(sum(file.stat().st_size for file in files) / 1e6),
        "threshold": sky.threshold,
    }
    # Written last, so that a sky whose making was interrupted is made again.
    (directory / "sky.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def partitions_with_rows(catalog: Path) -> IntArray:
    """[order, pixel] of the partitions of a HATS catalog, in nested order; shape (n, 2)."""
    listed = np.loadtxt(catalog / "partition_info.csv", np.int64, delimiter=",", skiprows=1)
    return skies.nested_sort(listed.reshape(-1, 2))


def codes(pixels: IntArray, ids: IntArray) -> IntArray:
    """One number for each pair of a pixel, as [order, pixel], and a row's id; shape (n,)."""
    return (skies.pixel_keys(pixels) << 32) + ids


def rows_of_margin(margin: Path) -> IntArray:
    """The codes of all rows of a margin, HiPSCat or HATS, sorted."""
    found = [np.empty(0, np.int64)]
    for file in margin.rglob("Npix=*.parquet"):
        ids = pq.ParquetFile(file).read(columns=["id"])["id"].to_numpy()
        pixel = [int(part.partition("=")[2]) for part in (file.parts[-3], file.stem)]
        found.append(codes(np.array([pixel]), ids))
    return np.sort(np.concatenate(found))


def judge(sky: Path, margin: Path) -> tuple[int, int, int]:
    """Compare a margin with the truth.

    Tools divide the sky beside the partitions differently, so rows of these pixels do not count.

    Args:
        sky: directory of the sky.
        margin: the margin, HiPSCat or HATS.

    Returns:
        Rows of the margin; and, in the margins of the catalog's partitions, rows of the truth that
        it lacks, and rows that are not in the truth.
    """
    partitions = skies.pixel_keys(partitions_with_rows(sky / "hats" / sky.name))
    rows = rows_of_margin(margin)
    truth, found = (
        each[np.isin(each >> 32, partitions)]
        for each in (np.load(sky / "truth.npz")["codes"], rows)
    )
    common = len(np.intersect1d(truth, found))
    return len(rows), len(truth) - common, len(found) - common
