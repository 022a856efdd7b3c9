"""What catalogs say about themselves, and catalogs of files with hardly a row."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files, read_partitions
from margin_cache.catalog.spec import pixel_path
from margin_cache.healpix.nested import Pixel

HIPSCAT = CatalogInfo(
    format="hipscat",
    path="sky",
    name="sky",
    epoch="J2000",
    ra_column="ra",
    dec_column="dec",
    index_column="_hipscat_index",
    index_order=19,
    index_shift=22,
)
HATS = CatalogInfo(
    format="hats",
    path="sky",
    name="sky",
    epoch=None,
    ra_column="ra",
    dec_column="dec",
    index_column=None,
    index_order=29,
    index_shift=0,
    dataset="dataset",
)


def write_partition(
    info: CatalogInfo, order: int, pixel: int, table: pa.Table, name: str = ""
) -> Path:
    """Write the file of a partition, or the file of a name in it if it is a directory."""
    path = Path(info.path, info.dataset, pixel_path(Pixel(order, pixel), info.npix_suffix) + name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def partition_paths(info: CatalogInfo, pixel: Pixel) -> list[Path]:
    """The files of a partition on disk."""
    return [Path(info.path, file) for file in partition_files(info, pixel)]


def some_partitions(
    directory: Path, pixels: Sequence[tuple[int, int]], schema: pa.Schema
) -> tuple[CatalogInfo, Partitions]:
    """A HiPSCat catalog in a directory, of partitions without rows."""
    info = replace(HIPSCAT, path=str(directory))
    for order, pixel in pixels:
        write_partition(info, order, pixel, schema.empty_table())
    return info, read_partitions(info)
