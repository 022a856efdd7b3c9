"""The spatial index and the coordinates of all rows of partitions.

Memory is bounded by batches of rows, not by the size of a partition or of its row groups.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.model import INDEX_TOLERANCE, CatalogInfo
from margin_cache.catalog.table_positions import coordinates, spatial_index
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.boundary import is_within
from margin_cache.healpix.neighbors import pixels_at
from margin_cache.healpix.nested import Pixel
from margin_cache.parquet.partition_file import PartitionFile
from margin_cache.storage.parquet_files import unreadable

BATCH_ROWS = 1 << 16
"""Rows that are decoded at once."""

_MOST_LONGITUDE = 720.0
"""Right ascensions may be negative, or beyond a whole turn; more than two are a mistake."""

_CELL_ORDER = 15
"""Coordinates are compared with the spatial index in cells of this order, or of the partition's if
that is finer: 6.4 arcsec wide, so that few rows are near the border of one, and none that is
accepted lies much farther from where its index says than the tolerance."""


@dataclass(frozen=True)
class FilePositions:
    """Spatial index and coordinates of some rows of a file.

    Attributes:
        pixel: pixel of the file's partition.
        part: the file.
        positions: the columns that ``read_positions`` yields.
    """

    pixel: Pixel
    part: PartitionFile
    positions: pa.Table


def read_positions(
    info: CatalogInfo, pixel: Pixel, part: PartitionFile, threads: int
) -> Iterator[pa.Table]:
    """Yield the spatial index and the coordinates of a file's rows, batch by batch.

    Args:
        info: the catalog.
        pixel: the partition's pixel.
        part: the file.
        threads: threads that decode columns.

    Raises:
        MarginCacheError: rows have no coordinates, or an index that is not in the partition.
    """
    columns = [info.ra_column, info.dec_column]
    if info.index_column is not None:
        columns.insert(0, info.index_column)
    for batch in _batches_of(part, columns, threads):
        # By name, since Parquet adds columns inside others whose paths are such names. Without
        # what the file says of nulls, which may differ from one partition to the next.
        table = pa.Table.from_arrays([batch[name] for name in columns], columns)
        if info.index_column is not None and table[info.index_column].null_count:
            nulls = _whole(part, [info.index_column])[info.index_column].null_count
            raise MarginCacheError(
                f"{part.path}: {nulls} rows have a null {info.index_column}; "
                "remove them from the catalog"
            )
        if not _are_positions(*coordinates(info, table)).all():
            raise MarginCacheError(
                f"{part.path}: {_count_without_position(part, info)} rows have a null, NaN "
                f"or impossible {info.ra_column} or {info.dec_column}; remove them from the catalog"
            )
        if info.index_column is not None:
            _check_index(info, pixel, part, table[info.index_column].to_numpy())
        else:
            _check_pixel(info, pixel, part, table)
        yield table


def read_batches(
    path: Path, file: pq.ParquetFile, groups: Sequence[int], columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """Yield columns of the rows of row groups, batch by batch.

    Args:
        path: the file.
        file: the same, open.
        groups: numbers of row groups.
        columns: names of columns.

    Raises:
        MarginCacheError: the file is damaged.
    """
    left = sum(file.metadata.row_group(group).num_rows for group in groups)
    try:
        for batch in file.iter_batches(
            BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False
        ):
            # PyArrow does not say that a column of a damaged file has fewer values than others.
            if any(len(column) != batch.num_rows for column in batch.columns):
                raise EOFError("one of its columns ends before its last row")
            left -= batch.num_rows
            yield batch
        if left:
            raise EOFError("it ends before its last row")
    except (pa.ArrowException, OSError, EOFError) as error:
        raise unreadable(path, error) from None


def _batches_of(part: PartitionFile, columns: list[str], threads: int) -> Iterator[pa.RecordBatch]:
    """Yield columns of a file; with several threads the next batch is read while one is worked at.

    Raises:
        MarginCacheError: the file is damaged.
    """
    groups = range(part.file.num_row_groups)
    if threads == 1:
        yield from read_batches(part.path, part.file, groups, columns)
        return
    lots = [columns[first :: threads - 1] for first in range(min(threads - 1, len(columns)))]
    streams = [read_batches(part.path, part.reopened(), groups, lot) for lot in lots]
    with ThreadPoolExecutor(len(lots)) as pool:
        coming = [pool.submit(next, stream, None) for stream in streams]
        while True:
            batches = [batch for each in coming if (batch := each.result()) is not None]
            if len(batches) < len(lots):
                return  # all of them have ended: each has yielded all rows of the file
            coming = [pool.submit(next, stream, None) for stream in streams]
            if len({len(batch) for batch in batches}) > 1:
                raise unreadable(part.path, EOFError("one of its columns ends before its last row"))
            yield pa.RecordBatch.from_arrays(
                [column for batch in batches for column in batch.columns],
                [name for batch in batches for name in batch.schema.names],
            )


def _whole(part: PartitionFile, columns: list[str]) -> pa.Table:
    """Read columns of a whole file, to say how many rows are wrong."""
    try:
        return part.file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(part.path, error) from None


def _are_positions(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which coordinates, in degrees, are possible; NaN is not."""
    return (np.abs(lon) <= _MOST_LONGITUDE) & (np.abs(lat) <= 90)


def _count_without_position(part: PartitionFile, info: CatalogInfo) -> int:
    table = _whole(part, [info.ra_column, info.dec_column])
    return int(np.count_nonzero(~_are_positions(*coordinates(info, table))))


def _check_index(
    info: CatalogInfo, pixel: Pixel, part: PartitionFile, index: NDArray[np.integer]
) -> None:
    """Check that rows of a partition have the spatial index of its pixel.

    Only where it is a column: pixels made from the coordinates may lie beyond the border by a
    rounding error.
    """
    if info.index_column is None or pixel.order > info.index_order or not len(index):
        return
    shift = info.index_shift + 2 * (info.index_order - pixel.order)
    low, high = pixel.number << shift, ((pixel.number + 1) << shift) - 1
    if int(index.min()) < low or int(index.max()) > high:
        column = _whole(part, [info.index_column])[info.index_column].to_numpy()
        outside = np.count_nonzero((column < low) | (column > high))
        raise MarginCacheError(
            f"{part.path}: {outside} rows have a {info.index_column} outside the partition's "
            "pixel; the catalog is damaged, or its index of another kind"
        )


def check_coordinates(info: CatalogInfo, found: Sequence[FilePositions]) -> None:
    """Check that rows lie where their spatial index says; without one, that was done in reading.

    Args:
        info: the catalog.
        found: positions of some rows of files. They are looked at together, since that takes as
            long for few rows as for many.

    Raises:
        MarginCacheError: some lie elsewhere; the whole file is read to say how many.
    """
    if info.index_column is None:
        return
    by_order: dict[int, list[FilePositions]] = {}
    for each in found:
        by_order.setdefault(_cell_order(info, each.pixel.order), []).append(each)
    for order, files in by_order.items():
        rows = pa.concat_tables([each.positions for each in files])
        if _are_elsewhere(info, order, rows).any():
            for each in files:
                _check_alone(info, order, each)


def _check_alone(info: CatalogInfo, order: int, found: FilePositions) -> None:
    """Check the rows of one file, and count those of all of it that lie elsewhere."""
    if not _are_elsewhere(info, order, found.positions).any():
        return
    table = _whole(found.part, found.positions.schema.names).drop_null()
    table = table.filter(pa.array(_are_positions(*coordinates(info, table))))
    count = int(np.count_nonzero(_are_elsewhere(info, order, table)))
    raise _elsewhere(info, found.part.path, count, f"where their {info.index_column} says", "index")


def _check_pixel(info: CatalogInfo, pixel: Pixel, part: PartitionFile, positions: pa.Table) -> None:
    """Check that rows lie in the pixel of their partition, in a catalog without spatial index.

    Raises:
        MarginCacheError: some lie elsewhere; the whole file is read to say how many.
    """

    def are_elsewhere(table: pa.Table) -> NDArray[np.bool_]:
        lon, lat = coordinates(info, table)
        return _are_beyond(lon, lat, pixel.order, np.full(len(lon), pixel.number))

    if are_elsewhere(positions).any():
        table = _whole(part, positions.schema.names).drop_null()
        table = table.filter(pa.array(_are_positions(*coordinates(info, table))))
        count = int(np.count_nonzero(are_elsewhere(table)))
        raise _elsewhere(info, part.path, count, "the partition's pixel", "partitions")


def _elsewhere(
    info: CatalogInfo, path: Path, count: int, place: str, frame: str
) -> MarginCacheError:
    return MarginCacheError(
        f"{path}: {count} rows have a {info.ra_column} and {info.dec_column} more than "
        f"{INDEX_TOLERANCE:g} arcsec from {place}; are these the right columns, in degrees, and in "
        f"the frame of the {frame} (ICRS)?"
    )


def _cell_order(info: CatalogInfo, order: int) -> int:
    """Return the order of the cells in which rows of a partition of an order are looked at."""
    return min(max(order, _CELL_ORDER), info.index_order)


def _are_elsewhere(info: CatalogInfo, order: int, table: pa.Table) -> NDArray[np.bool_]:
    """Tell which rows are not in the cell, of an order, of their spatial index."""
    index = spatial_index(info, table)
    shift = info.index_shift + 2 * (info.index_order - order)
    cells = (index >> index.dtype.type(shift)).astype(np.int64)
    return _are_beyond(*coordinates(info, table), order, cells)


def _are_beyond(
    lon: NDArray[np.float64], lat: NDArray[np.float64], order: int, cells: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which points are farther from their cells than the tolerance."""
    elsewhere = pixels_at(order, lon, lat) != cells
    # Few are left, whose distance takes fifty times as long.
    beyond = np.flatnonzero(elsewhere)
    elsewhere[beyond] = ~is_within(lon[beyond], lat[beyond], order, cells[beyond], INDEX_TOLERANCE)
    return elsewhere
