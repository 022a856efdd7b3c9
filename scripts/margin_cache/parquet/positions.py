"""Reads the spatial index and the coordinates of all rows of partitions, and checks them.

Memory is bounded by batches of rows, not by the size of a partition or of its row groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.columns import coordinates, spatial_index
from margin_cache.catalog.model import INDEX_TOLERANCE, CatalogInfo
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.boundary import is_within
from margin_cache.healpix.neighbors import pixels_at
from margin_cache.healpix.nested import Pixel
from margin_cache.parquet.partition_file import PartitionFile
from margin_cache.storage.parquet_files import unreadable

BATCH_ROWS, BATCH_BYTES = 1 << 16, 128 << 20
"""Rows that are decoded together, and their approximate most bytes in memory."""

_MOST_LONGITUDE = 720.0
"""Right ascensions may be negative or exceed a whole turn; more than two turns are an error."""

_CELL_ORDER = 15
"""Coordinates are compared with the spatial index in cells of this order, or of the partition's if
that is finer. They are 6.4 arcsec wide: few rows are near a border, and no accepted row is much
farther from the position of its index than the tolerance."""


@dataclass(frozen=True)
class FilePositions:
    """Some rows of a file of a partition, with the columns that ``read_positions`` yields.

    ``rows`` are indices of rows in the file, perhaps repeated, shape (n,).
    """

    pixel: Pixel
    file: PartitionFile
    rows: NDArray[np.int64]
    positions: pa.Table


def read_positions(info: CatalogInfo, pixel: Pixel, part: PartitionFile) -> Iterator[pa.Table]:
    """Yield the spatial index and the coordinates of a file's rows, checked, batch by batch."""
    columns = [info.ra_column, info.dec_column]
    if info.index_column is not None:
        columns.insert(0, info.index_column)
    groups = range(part.file.num_row_groups)
    for batch in read_batches(part.path, part.file, groups, columns):
        # By name, because the batch also has nested columns whose paths are equal to the names.
        # Without the nullability of the file's schema, which may differ between partitions.
        table = part.in_catalog_types({name: batch[name] for name in columns})
        if info.index_column is not None and (nulls := table[info.index_column].null_count):
            raise MarginCacheError(
                f"{part.path}: {info.index_column} is null in {_share(nulls, part)}. Fill in the "
                "index, or remove these rows. If there should be none, the file may be damaged."
            )
        lon, lat = coordinates(info, table)
        possible = (np.abs(lon) <= _MOST_LONGITUDE) & (np.abs(lat) <= 90)
        if not possible.all():
            raise MarginCacheError(
                f"{part.path}: {info.ra_column} or {info.dec_column} is null, NaN or impossible in "
                f"{_share(np.count_nonzero(~possible), part)}. Correct or remove these rows. "
                "If there should be none, the file may be damaged: copy it again."
            )
        if info.index_column is not None:
            _check_index(info, pixel, part, table[info.index_column].to_numpy())
        else:
            beyond = _are_beyond(lon, lat, pixel.order, np.full(len(lon), pixel.number))
            if count := np.count_nonzero(beyond):
                raise _elsewhere(info, part, count, "the partition's pixel", "partitions")
        yield table


def read_batches(
    path: str,
    file: pq.ParquetFile,
    groups: Sequence[int],
    columns: list[str],
    row_bytes: float = 1.0,
) -> Iterator[pa.RecordBatch]:
    """Yield columns of row groups, batch by batch: fewer rows if they have many bytes."""
    left = sum(file.metadata.row_group(group).num_rows for group in groups)
    try:
        rows = max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(row_bytes, 1.0))))
        for batch in file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
            # PyArrow does not report a column with fewer values than others in a damaged file.
            if any(len(column) != batch.num_rows for column in batch.columns):
                raise EOFError("one of its columns ends before its last row")
            left -= batch.num_rows
            yield batch
        if left:
            raise EOFError("it ends before its last row")
    except (pa.ArrowException, OSError, EOFError) as error:
        raise unreadable(path, error) from None


def _share(count: int | np.integer, part: PartitionFile) -> str:
    return f"at least {count} of {part.file.metadata.num_rows} rows"


def _check_index(
    info: CatalogInfo, pixel: Pixel, part: PartitionFile, index: NDArray[np.integer]
) -> None:
    """Check that the spatial index of rows is inside the pixel of their partition.

    Only an index that is a column: one computed from the coordinates may be outside by a rounding
    error.
    """
    if info.index_column is None or pixel.order > info.index_order or not len(index):
        return
    shift = info.index_shift + 2 * (info.index_order - pixel.order)
    low, high = pixel.number << shift, ((pixel.number + 1) << shift) - 1
    if int(index.min()) < low or int(index.max()) > high:
        outside = np.count_nonzero((index < low) | (index > high))
        raise MarginCacheError(
            f"{part.path}: {info.index_column} is outside the partition's pixel in "
            f"{_share(outside, part)}. The file is damaged, or the index is of another kind."
        )


def check_coordinates(info: CatalogInfo, files: Sequence[FilePositions]) -> None:
    """Check that coordinates match the spatial index. Without an index, reading has checked them.

    Rows of several files are checked together, because that takes as long for few rows as for many.
    """
    if info.index_column is None:
        return
    by_order: dict[int, list[FilePositions]] = {}
    for file in files:
        order = min(max(file.pixel.order, _CELL_ORDER), info.index_order)
        by_order.setdefault(order, []).append(file)
    for order, files_of_order in by_order.items():
        table = pa.concat_tables([file.positions for file in files_of_order])
        index = spatial_index(info, table)
        shift = info.index_shift + 2 * (info.index_order - order)
        cells = (index >> index.dtype.type(shift)).astype(np.int64)
        beyond = _are_beyond(*coordinates(info, table), order, cells)
        if not beyond.any():
            continue
        ends = np.cumsum([len(file.rows) for file in files_of_order])
        for file, of_file in zip(files_of_order, np.split(beyond, ends[:-1]), strict=True):
            if count := len(np.unique(file.rows[of_file])):
                place = f"the position of {info.index_column}"
                raise _elsewhere(info, file.file, count, place, "index")


def _elsewhere(
    info: CatalogInfo, part: PartitionFile, count: int | np.integer, position: str, frame: str
) -> MarginCacheError:
    return MarginCacheError(
        f"{part.path}: {info.ra_column} and {info.dec_column} are more than "
        f"{INDEX_TOLERANCE:g} arcsec from {position} in {_share(count, part)}. Check that "
        f"these are the right columns, in degrees and in the frame of the {frame} (ICRS). If they "
        "are right in other files, this one may be damaged: copy it again."
    )


def _are_beyond(
    lon: NDArray[np.float64], lat: NDArray[np.float64], order: int, cells: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return a mask of the points that are farther from their cells than the tolerance."""
    elsewhere = pixels_at(order, lon, lat) != cells
    # The distance takes fifty times as long, so only few points get here.
    beyond = np.flatnonzero(elsewhere)
    elsewhere[beyond] = ~is_within(lon[beyond], lat[beyond], order, cells[beyond], INDEX_TOLERANCE)
    return elsewhere
