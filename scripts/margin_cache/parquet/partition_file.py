"""A partition's files, and the spatial index and the coordinates of their rows, checked.

All reads see one state of a file. Memory is bounded by batches of rows, not by the size of a file
or of its row groups.
"""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.columns import (
    cast_column,
    check_columns,
    check_schema,
    coordinates,
    spatial_index,
)
from margin_cache.catalog.model import INDEX_TOLERANCE, CatalogInfo, Partition
from margin_cache.catalog.partitions import unchanged_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.boundary import is_within
from margin_cache.healpix.neighbors import pixels_at
from margin_cache.healpix.nested import Pixel
from margin_cache.parquet.footers import ColumnSize, column_sizes
from margin_cache.storage.catalog_files import open_parquet, unreadable

if TYPE_CHECKING:
    from margin_cache.parquet.remote_reader import RemoteFile, RemoteReader

BATCH_ROWS, BATCH_BYTES = 1 << 16, 128 << 20
"""Rows that are decoded together, and their approximate most bytes in memory."""

_MOST_LONGITUDE = 720.0  # right ascensions may be negative, or exceed a whole turn

_CELL_ORDER = 15
"""Coordinates are compared with the spatial index in cells of this order, or of the partition's if
that is finer. They are 6.4 arcsec wide: few rows are near a border, and no accepted row is much
farther from the position of its index than the tolerance."""

_RESULT_BYTES = 16 << 20  # of selected values of columns that are read together, in memory


@dataclass(frozen=True)
class PartitionFile:
    """An open file of a partition, so that all reads see one state; ``path`` is for messages."""

    path: str
    file: pq.ParquetFile
    remote: "RemoteFile | None" = None  # fetches parts of the file if the catalog is remote
    catalog_schema: pa.Schema | None = None  # if the file's own differs

    @property
    def local_path(self) -> Path:
        """The file on disk; of a remote file, the one with the ranges that were fetched."""
        return self.remote.path if self.remote else Path(self.path)

    @cached_property
    def schema(self) -> pa.Schema:
        return self.file.schema_arrow

    @cached_property
    def sizes(self) -> dict[str, ColumnSize]:
        return column_sizes(self.file, self.schema.names)

    @property
    def bytes_on_disk(self) -> int:
        return self.remote.bytes_on_disk if self.remote else 0


def open_files(
    info: CatalogInfo, partition: Partition, schema: pa.Schema, reader: "RemoteReader | None" = None
) -> Iterator[PartitionFile]:
    """Yield the files of a partition, which has its planned state."""
    for file_path in unchanged_files(info, partition):
        path = info.files.name(file_path)
        remote = reader.open(file_path) if reader else None
        part = PartitionFile(path, remote.parquet if remote else open_parquet(path), remote)
        # The schema of the catalog was checked before.
        if not part.schema.equals(schema):
            check_columns(info, part.schema, path)
            check_schema(part.schema, schema, path)
            part = replace(part, catalog_schema=schema)
        if remote:
            # The local copy is deleted as soon as nobody reads it any more.
            weakref.finalize(part, remote.close)
        yield part


def column_groups(
    part: PartitionFile, names: Iterable[str], limit: int, rows: int = 0
) -> Iterator[list[str]]:
    """Divide columns into groups with few bytes in the file and of the selected rows in memory."""
    together: list[str] = []
    in_file, in_memory = 0, 0.0
    for name in names:
        stored, selected = part.sizes[name].stored, rows * part.sizes[name].row
        if together and (in_file + stored > limit or in_memory + selected > _RESULT_BYTES):
            yield together
            together, in_file, in_memory = [], 0, 0.0
        together.append(name)
        in_file, in_memory = in_file + stored, in_memory + selected
    if together:
        yield together


@dataclass(frozen=True)
class FilePositions:
    """Rows of a file, by their numbers, perhaps repeated, with what `read_positions` yields."""

    pixel: Pixel
    file: PartitionFile
    rows: NDArray[np.int64]
    positions: pa.Table


def read_positions(info: CatalogInfo, pixel: Pixel, part: PartitionFile) -> Iterator[pa.Table]:
    """Yield the spatial index and the coordinates of a file's rows, checked, batch by batch."""
    columns = [info.ra_column, info.dec_column]
    if info.index_column is not None:
        columns.insert(0, info.index_column)
    for batch in read_batches(part, range(part.file.num_row_groups), columns):
        # By name, because the batch also has nested columns whose paths are equal to the names.
        # Without the nullability of the file's schema, which may differ between partitions.
        fields = map((part.catalog_schema or part.schema).field, columns)
        table = pa.table(
            {field.name: cast_column(batch[field.name], field, part.path) for field in fields}
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
            _check_index(info, pixel, part, table[info.index_column])
        else:
            beyond = _are_beyond(lon, lat, pixel.order, np.full(len(lon), pixel.number))
            if count := np.count_nonzero(beyond):
                raise _elsewhere(info, part, count, "the partition's pixel", "partitions")
        yield table


def read_batches(
    part: PartitionFile, groups: Sequence[int], columns: list[str], row_bytes: float = 1.0
) -> Iterator[pa.RecordBatch]:
    """Yield columns of row groups, batch by batch: fewer rows if they have many bytes."""
    left = sum(part.file.metadata.row_group(group).num_rows for group in groups)
    rows = max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(row_bytes, 1.0))))
    try:
        for batch in part.file.iter_batches(rows, groups, columns, use_threads=False):
            # PyArrow does not report a column with fewer values than others in a damaged file.
            if any(len(column) != batch.num_rows for column in batch.columns):
                raise EOFError("one of its columns ends before its last row")
            left -= batch.num_rows
            yield batch
        if left:
            raise EOFError("it ends before its last row")
    except (pa.ArrowException, OSError, EOFError) as error:
        raise unreadable(part.path, error) from None


def _share(count: int | np.integer, part: PartitionFile) -> str:
    return f"at least {count} of {part.file.metadata.num_rows} rows"


def _check_index(
    info: CatalogInfo, pixel: Pixel, part: PartitionFile, column: pa.ChunkedArray
) -> None:
    """Check that the spatial index of rows is inside the pixel of their partition."""
    if column.null_count:
        raise MarginCacheError(
            f"{part.path}: {info.index_column} is null in {_share(column.null_count, part)}. Fill "
            "in the index, or remove these rows. If there should be none, the file may be damaged."
        )
    index = column.to_numpy()
    if pixel.order > info.index_order or not len(index):
        return
    shift = info.index_shift + 2 * (info.index_order - pixel.order)
    low, high = pixel.number << shift, ((pixel.number + 1) << shift) - 1
    if int(index.min()) < low or int(index.max()) > high:
        outside = np.count_nonzero((index < low) | (index > high))
        raise MarginCacheError(
            f"{part.path}: {info.index_column} is outside the partition's pixel in "
            f"{_share(outside, part)}. Copy the file again; if it is whole, the index "
            f"is not the nested one of order {info.index_order} that the metadata state."
        )


def check_coordinates(info: CatalogInfo, files: Sequence[FilePositions]) -> None:
    """Check that coordinates match the spatial index, in many files at once, which is faster."""
    if info.index_column is None:
        return  # reading has checked them
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
