"""Compares the metadata of a catalog with its files: ``_metadata``, and the number of rows.

This takes too long for every run, so it is done when a margin is planned or a partition changes;
``partition_info.csv`` is compared by ``partitions.read_partitions`` whenever partitions are listed.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog.formats import format_of
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.catalog.spec import DIR, METADATA, NORDER, NPIX, PARTITION_INFO
from margin_cache.errors import MarginCacheError
from margin_cache.storage.catalog_files import CatalogFiles
from margin_cache.storage.parquet_files import unreadable

MOST_BYTES = 128 * 10**6
"""A larger ``_metadata`` is not read: one of this size takes a second and 900 MB to decode."""

_MOST_ELEMENTS = (1 << 31) - 1

_READERS = 16

_PARTITION_PATH = re.compile(rf"(?:^|/)({NORDER}=\d+/{DIR}=\d+/{NPIX}=.*)")


def check_consistency(info: CatalogInfo, partitions: Partitions) -> None:
    """Check that ``_metadata`` lists the files of a catalog, and that no rows are missing.

    The number of rows in the catalog's description is compared with ``_metadata``; without it, with
    the footers of all files, unless partition_info.csv has already shown that no file is missing.
    """
    path = info.parquet_path(METADATA)
    stated = format_of(info).stated_rows(info)
    metadata = read_metadata(info.files, path)
    listed = None if metadata is None else listed_files(metadata)
    if metadata is not None and listed is not None:
        _check_files(info, partitions, listed, info.files.name(path))
        rows, which = metadata.num_rows, f"{info.files.name(path)} lists"
    elif stated is not None and not info.files.exists(PARTITION_INFO):
        with ThreadPoolExecutor(_READERS) as threads:
            rows = sum(threads.map(partial(_rows_of, info), _files(info, partitions)))
        which = "its files have"
    else:
        return
    if stated is not None and stated[1] != rows:
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: {stated[0]} is {stated[1]}, but {which} {rows} "
            "rows. Copy missing files again, or correct the number."
        )


def read_metadata(files: CatalogFiles, path: str) -> pq.FileMetaData | None:
    """Return the content of ``_metadata``; None if it is missing or too large."""
    if not files.exists(path):
        return None
    try:
        if files.state(path).size > MOST_BYTES:
            return None
        # The default limits of the reader are for the files of single partitions.
        return pq.ParquetFile(
            files.open(path),
            pre_buffer=False,
            thrift_string_size_limit=_MOST_ELEMENTS,
            thrift_container_size_limit=_MOST_ELEMENTS,
        ).metadata
    except FileNotFoundError:
        raise MarginCacheError(f"{files.name(path)}: is a broken link. Remove it.") from None
    except (pa.ArrowException, OSError) as error:
        raise unreadable(files.name(path), error) from None


def listed_files(metadata: pq.FileMetaData) -> set[str] | None:
    """Return the paths of the files in ``_metadata``; None if some have no path.

    The paths begin with ``Norder=``: formats and writers put different directories before it.
    """
    groups = range(metadata.num_row_groups if metadata.num_columns else 0)
    paths = {metadata.row_group(number).column(0).file_path for number in groups}
    matches = [_PARTITION_PATH.search(path) for path in paths]
    listed = {match[1] for match in matches if match}
    return listed if listed and None not in matches else None


def _files(info: CatalogInfo, partitions: Partitions) -> Iterable[str]:
    return (file for pixel, _ in partitions for file in partition_files(info, pixel))


def _rows_of(info: CatalogInfo, file: str) -> int:
    return info.files.open_parquet(file).metadata.num_rows


def _check_files(info: CatalogInfo, partitions: Partitions, listed: set[str], source: str) -> None:
    start = len(info.parquet_path(""))
    existing = {file[start:] for file in _files(info, partitions)}
    missing = sorted(listed - existing)
    if missing:
        raise MarginCacheError(
            f"{source}: lists {missing[0]}, which is missing (missing files: {len(missing)}). "
            f"Copy missing files again, or remove {METADATA}."
        )
    for name in sorted(existing - listed):
        # A file without rows may have no row groups, and _metadata lists row groups.
        if _rows_of(info, info.parquet_path(name)):
            raise MarginCacheError(
                f"{source}: does not list {name}. Write {METADATA} again, or remove it."
            )
