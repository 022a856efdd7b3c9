"""Catalogs with negative pixels, and their margins, for the audit."""

from collections import Counter
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from margin_cache.margin.finish import finish_margin

from support import oracle
from support.margins import configuration
from support.small_skies import small_catalog
from support.stages import release_locks
from support.workflow_runs import without_snakemake
from support.write_hats import write_hats
from support.write_hipscat import pixel_file, write_hipscat

WRITERS: dict[str, Callable[..., None]] = {"hipscat": write_hipscat, "hats": write_hats}
THRESHOLD = 600.0
ADDED = ["_hipscat_index", "Norder", "Dir", "Npix"]
INDEXES = ("_hipscat_index", "_healpix_29")

RowsOfPixels = Counter[tuple[tuple[int, int], int]]
"""How often the margin of a pixel contains a row, by pixel (order, number) and spatial index."""


def make_catalog(name: str, directory: Path, rows: int = 900) -> None:
    """Make a catalog `sky` that lacks two partitions, so that negative pixels have rows."""
    small_catalog(directory / "all", rows=rows, max_rows=rows // 9)
    listed = pd.read_csv(directory / "all/partition_info.csv").iloc[2:]
    pixels = listed[["Norder", "Npix"]].to_numpy()
    paths = [directory / "all" / pixel_file(order, pixel) for order, pixel in pixels]
    tables = [pq.ParquetFile(path).read().drop_columns(ADDED) for path in paths]
    table = pa.concat_tables(tables).replace_schema_metadata(None)
    WRITERS[name](directory, "sky", table, pixels)


def make_margin(directory: Path, **changes: object) -> None:
    """Make the margin `results/margin` of the catalog `sky`."""
    with chdir(directory):
        config = configuration(Path("sky"), margin_threshold=THRESHOLD, **changes)
        for margin in without_snakemake(config):
            finish_margin(margin)
        release_locks()


def make_site(name: str, directory: Path) -> None:
    directory.mkdir()
    make_catalog(name, directory)
    make_margin(directory)


def true_rows(catalog: Path, threshold: float = THRESHOLD) -> RowsOfPixels:
    """The rows that the margin of a catalog must have, by the oracle."""
    return _true_rows(catalog.resolve(), threshold).copy()


@cache
def _true_rows(catalog: Path, threshold: float) -> RowsOfPixels:
    tables = {pixel_of(path): read_rows(path) for path in catalog.rglob("Npix=*.parquet")}
    pixels = sorted(tables, key=lambda pixel: pixel[1] << 2 * (29 - pixel[0]))
    partitions = np.array(pixels)
    destinations = np.concatenate([partitions, oracle.negative_pixels(partitions)])
    partition_of_row = np.repeat(np.arange(len(pixels)), [len(tables[pixel]) for pixel in pixels])
    rows = pd.concat([tables[pixel] for pixel in pixels])
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    chosen, targets, ambiguous = oracle.brute_force_margin(
        ra, dec, partition_of_row, partitions, destinations, threshold
    )
    assert not len(ambiguous)
    indexes = rows["index"].to_numpy()[chosen].tolist()
    return Counter(zip(map(tuple, destinations[targets].tolist()), indexes, strict=True))


def rows_of_margin(margin: Path) -> RowsOfPixels:
    return Counter(
        (pixel_of(path), index)
        for path in margin.rglob("Npix=*.parquet")
        for index in read_rows(path)["index"].tolist()
    )


def pixel_of(path: Path) -> tuple[int, int]:
    return int(path.parts[-3].partition("=")[2]), int(path.stem.partition("=")[2])


def read_rows(path: Path) -> pd.DataFrame:
    with pq.ParquetFile(path) as file:
        (index,) = set(file.schema_arrow.names) & set(INDEXES)
        table = file.read([index, "ra", "dec"])
    names = ("ra", "dec")
    return pd.DataFrame(
        {"index": table[index].to_numpy(), **{name: table[name].to_numpy() for name in names}}
    )
