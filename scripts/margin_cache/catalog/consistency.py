"""Compares the number of rows in a catalog's description with its files.

This takes too long for every run, so it is done when a margin is planned or a partition changes;
``partition_info.csv`` is compared by ``partitions.read_partitions`` whenever partitions are listed.
"""

from concurrent.futures import ThreadPoolExecutor

from margin_cache.catalog.formats import format_of
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.catalog.spec import PARTITION_INFO
from margin_cache.errors import MarginCacheError

_READERS = 16


def check_consistency(info: CatalogInfo, partitions: Partitions) -> None:
    """Check that no rows are missing, unless partition_info.csv has shown that no file is."""
    stated = format_of(info).stated_rows(info)
    if stated is None or (info.npix_suffix != "/" and info.files.exists(PARTITION_INFO)):
        return

    def rows_of(file: str) -> int:
        return info.files.open_parquet(file).metadata.num_rows

    files = (file for pixel, _ in partitions for file in partition_files(info, pixel))
    with ThreadPoolExecutor(_READERS) as threads:
        rows = sum(threads.map(rows_of, files))
    if stated[1] != rows:
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: {stated[0]} is {stated[1]}, but its files have "
            f"{rows} rows. Copy missing files again, or correct the number."
        )
