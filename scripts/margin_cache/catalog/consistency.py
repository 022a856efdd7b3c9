"""What a catalog says of its files and rows, compared with what is there.

``partition_info.csv`` is compared whenever partitions are listed; what takes longer is here, and is
done when a margin is planned or the state of a partition has changed.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog.formats import format_of
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.catalog.spec import DIR, METADATA, NORDER, NPIX, PARTITION_INFO
from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import check_ordinary
from margin_cache.storage.parquet_files import open_parquet, unreadable

MOST_BYTES = 128 * 10**6
"""A larger ``_metadata`` is not compared: to decode one of this size takes a second and 900 MB."""

_MOST_ELEMENTS = (1 << 31) - 1

_READERS = 16


def check_consistency(info: CatalogInfo, partitions: Partitions) -> None:
    """Check that the files of a catalog are those in its ``_metadata``, and its rows as many.

    The number of rows that the catalog gives is compared with that in ``_metadata``; without one,
    with the footers of all files, unless partition_info.csv has said that none is missing. Of rows
    that ``_metadata`` gives to single files nothing is asked.

    Args:
        info: the catalog.
        partitions: all its partitions.

    Raises:
        MarginCacheError: something differs, or cannot be read.
    """
    path = info.parquet_dir / METADATA
    stated = format_of(info).stated_rows(info)
    metadata = read_metadata(path)
    listed = None if metadata is None else listed_files(metadata)
    if metadata is not None and listed is not None:
        _check_files(info, partitions, listed, path)
        rows, which = metadata.num_rows, f"{path} lists"
    elif stated is not None and not Path(info.path, PARTITION_INFO).exists():
        with ThreadPoolExecutor(_READERS) as threads:
            rows = sum(threads.map(_rows_of, _files(info, partitions)))
        which = "its files have"
    else:
        return
    if stated is not None and stated[1] != rows:
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: {stated[0]} is {stated[1]}, but {which} {rows} "
            "rows; copy what is missing again, or correct it"
        )


def read_metadata(path: Path) -> pq.FileMetaData | None:
    """Return what ``_metadata`` holds, or None if there is none, or too much of it.

    Raises:
        MarginCacheError: it cannot be read.
    """
    check_ordinary(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        # The reader's own limits are for files of one partition.
        return pq.ParquetFile(
            path,
            pre_buffer=False,
            thrift_string_size_limit=_MOST_ELEMENTS,
            thrift_container_size_limit=_MOST_ELEMENTS,
        ).metadata
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        raise MarginCacheError(f"{path}: is a link that leads nowhere; remove it") from None
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None


def listed_files(metadata: pq.FileMetaData) -> set[str] | None:
    """Return the paths of the files in ``_metadata``, from their order on; None if some have none.

    Formats and writers differ in what stands before that.
    """
    groups = range(metadata.num_row_groups if metadata.num_columns else 0)
    paths = {metadata.row_group(number).column(0).file_path for number in groups}
    found = [re.search(rf"(?:^|/)({NORDER}=\d+/{DIR}=\d+/{NPIX}=.*)", path) for path in paths]
    listed = {match[1] for match in found if match}
    return listed if listed and None not in found else None


def _files(info: CatalogInfo, partitions: Partitions) -> Iterable[Path]:
    return (file for pixel, _ in partitions for file in partition_files(info, pixel))


def _rows_of(file: Path) -> int:
    return open_parquet(file).metadata.num_rows


def _check_files(info: CatalogInfo, partitions: Partitions, listed: set[str], source: Path) -> None:
    start = len(str(info.parquet_dir)) + 1
    there = {str(file)[start:] for file in _files(info, partitions)}
    missing = sorted(listed - there)
    if missing:
        raise MarginCacheError(
            f"{source}: lists {missing[0]}, which is missing ({len(missing)} listed files are); "
            "copy what is missing again, or remove _metadata"
        )
    for name in sorted(there - listed):
        # A file without rows may be without row groups, and so have nothing in _metadata.
        if _rows_of(info.parquet_dir / name):
            raise MarginCacheError(
                f"{source}: does not list {name}, which is there; bring them into consistency, or "
                "remove _metadata"
            )
