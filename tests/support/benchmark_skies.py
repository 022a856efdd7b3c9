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
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from support import oracle, skies, sky_catalogs
from support.hats_options import hats_options
from support.survey_columns import light_curves, survey_columns
from support.write_hats import INDEX_COLUMN, write_hats
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
        habit: how its HATS files are written: "hats", with the options of hats itself, or "arrow",
            with PyArrow's defaults and one row group a file, as hipscat-import does; "plain" is
            the latter with zstd.
    """

    make: Callable[[], Rows]
    threshold: float
    hipscat: bool = False
    habit: Literal["hats", "arrow", "plain"] = "arrow"


def survey(rows: int, columns: int, max_rows: int | None = None) -> Rows:
    """A sky of real columns: half the rows uniform, half along a band.

    Args:
        rows: number of rows.
        columns: number of columns, of which three are id, ra and dec.
        max_rows: of a partition, of orders from 1 on; orders 2 and 3 if None.
    """
    table = _with_real_columns(sky_catalogs.survey_sky(rows, 3), columns)
    if max_rows is None:
        return table, sky_catalogs.survey_partitions(table)
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    return table, skies.adaptive_partitions(ra, dec, max_rows=max_rows, min_order=1)


def dense(rows: int = 4_000_000) -> Rows:
    """Partitions of 500 to 60,000 rows and 59 real columns; nearly all rows are along a band."""
    table = sky_catalogs.survey_sky(rows, 3, band_share=0.97, band_width=13.0)
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    partitions = skies.adaptive_partitions(ra, dec, max_rows=rows * 3 // 200, min_order=2)
    return _with_real_columns(table, 59), partitions


def _with_real_columns(table: pa.Table, columns: int) -> pa.Table:
    """Append real columns until there are so many in all."""
    rng = np.random.default_rng(7)
    for name, values in survey_columns(rng, len(table), columns - table.num_columns).items():
        table = table.append_column(name, values)
    return table


def plain() -> Rows:
    """The rows of the survey with columns that have no nulls."""
    table = sky_catalogs.survey_sky(2_000_000, 31)
    return table, sky_catalogs.survey_partitions(table)


# Pixels of order 4 around the centre of a base face.
WIDE_PIXELS = np.array([63, 106, 149, 192, 62, 104, 151, 193])
WIDE_ROWS = 500_000  # of a partition
WIDE_COLUMNS = 146  # beside id, ra, dec and the light curves


def wide(partition_rows: int = WIDE_ROWS) -> Rows:
    """A patch of 8 partitions of 500,000 rows and 150 columns, one of them light curves."""
    rng = np.random.default_rng(4)
    partitions = skies.nested_sort(np.column_stack([np.full(8, 4), WIDE_PIXELS]))
    count = len(partitions) * partition_rows
    at = np.repeat(partitions, partition_rows, axis=0)
    ra, dec = skies.pixel_positions(at, rng.uniform(0, 1, count), rng.uniform(0, 1, count))
    kept = skies.inside(skies.nested_pixels(ra, dec), partitions)  # rounding moves some across
    ra, dec = ra[kept], dec[kept]
    count = len(ra)
    columns = {"id": pa.array(np.arange(count)), "ra": pa.array(ra), "dec": pa.array(dec)}
    columns |= survey_columns(rng, count, WIDE_COLUMNS)
    columns["light_curve"] = light_curves(rng, count)
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


def _tiny() -> Rows:
    """For a look at whether a benchmark runs."""
    return survey(20_000, 12, 1_500)


def _small() -> Rows:
    return survey(500_000, 31, 12_000)


def _survey() -> Rows:
    return survey(2_000_000, 31)


def _large() -> Rows:
    return survey(20_000_000, 30, 400_000)


SKIES = {
    "tiny": Sky(_tiny, 10.0, hipscat=True, habit="hats"),
    "tiny_arrow": Sky(_tiny, 10.0, hipscat=True),
    "small": Sky(_small, 10.0, hipscat=True, habit="hats"),
    "small_arrow": Sky(_small, 10.0, hipscat=True),
    "survey": Sky(_survey, 10.0, hipscat=True, habit="hats"),
    "survey_arrow": Sky(_survey, 10.0, hipscat=True),
    "large": Sky(_large, 10.0, habit="hats"),
    "large_arrow": Sky(_large, 10.0),
    "wide": Sky(wide, 10.0, habit="hats"),
    "wide_arrow": Sky(wide, 10.0),
    "dense": Sky(dense, 10.0, habit="hats"),
    "dense_arrow": Sky(dense, 10.0),
    "plain": Sky(plain, 10.0, hipscat=True, habit="plain"),
    "many": Sky(many, 60.0, hipscat=True, habit="plain"),
}


def writer_options(sky: Sky, schema: pa.Schema) -> dict[str, Any]:
    """The options with which a sky's HATS files are written; `schema` is that of its rows."""
    if sky.habit != "hats":
        return {"compression": "snappy" if sky.habit == "arrow" else "zstd"}
    return hats_options(schema.insert(0, pa.field(INDEX_COLUMN, pa.int64())))


def make_sky(name: str, directory: Path) -> None:
    """Write a sky into a directory, unless it is there."""
    if (directory / "sky.json").exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    sky = SKIES[name]
    table, partitions = sky.make()
    # Where no options say otherwise, a row group has up to a million rows: more than any partition.
    write_hats(
        directory / "hats", name, table, partitions, options=writer_options(sky, table.schema)
    )
    if sky.hipscat:
        write_hipscat(directory / "hipscat", name, table, partitions)
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
