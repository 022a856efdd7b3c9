"""Mapping: from the partitions of a job to one shard with the rows that are in a margin.

A shard is an Arrow IPC file. Its columns are the primary's, after two of its own: ``destination``
and ``source``, indices into the plan's destinations and partitions. A row stands there once for
each destination whose margin it is in. Each record batch is sorted by destination; inside a
destination the rows keep the order of their partitions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hpgeom
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.boundary import is_within
from margin_cache.catalog import (
    CatalogInfo,
    check_columns,
    check_schema,
    open_parquet,
    partition_files,
    partition_state,
    pixel_path,
    read_schema,
    unreadable,
)
from margin_cache.errors import MarginCacheError
from margin_cache.nested import cells_and_neighbours, pixel_ranges, touches_border
from margin_cache.plan import Plan, expand_ranges
from margin_cache.storage import atomic_path

DESTINATION, SOURCE = "margin_cache:destination", "margin_cache:source"

_BATCH_ROWS = 1 << 16
"""Rows of a row group that are decoded at once."""

_MOST_LONGITUDE = 720.0
"""Right ascensions may be negative, or beyond a whole turn; more than two are a mistake."""

_FLUSH_BYTES = 64 * 10**6
"""Rows are gathered in memory up to this before they are written to the shard."""


@dataclass(frozen=True)
class MapResult:
    """What a map job did: rows read, and rows written (once a destination)."""

    rows_read: int
    rows_written: int


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type with every dictionary in it replaced by the type of its values.

    A dictionary's content depends on which rows were read together; plain values do not. Views
    of strings and binaries are replaced as well, since Arrow cannot take rows of them.
    """
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(
            kind.key_field.with_type(plain_type(kind.key_type)),
            kind.item_field.with_type(plain_type(kind.item_type)),
        )
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(plain_type(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)))
    return kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema, without metadata, whose fields have their ``plain_type``."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema])


def shard_schema(primary: pa.Schema) -> pa.Schema:
    """Return the schema of the shards of a primary catalog."""
    return pa.schema(
        [pa.field(DESTINATION, pa.uint32()), pa.field(SOURCE, pa.uint32()), *plain_schema(primary)]
    )


def map_partitions(plan: Plan, job: int, shard: Path) -> MapResult:
    """Write the shard of a map job.

    Args:
        plan: the plan.
        job: number of the map job.
        shard: the file to write.

    Raises:
        MarginCacheError: a partition is damaged, differs from the catalog's schema, changed after
            planning, or has rows without coordinates.
    """
    primary = read_schema(plan.task.catalog, plan.partitions)
    schema = shard_schema(primary)
    read = written = 0
    waiting: list[pa.Table] = []
    waiting_bytes = 0
    with (
        atomic_path(shard) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for partition in range(plan.map_bounds[job], plan.map_bounds[job + 1]):
            for rows, table in _margin_rows(plan, partition, primary, schema):
                read += rows
                written += table.num_rows
                if table.num_rows:
                    waiting.append(table)
                    waiting_bytes += table.nbytes
                if waiting_bytes > _FLUSH_BYTES:
                    _flush(writer, waiting)
                    waiting, waiting_bytes = [], 0
        if waiting:
            _flush(writer, waiting)
    return MapResult(read, written)


def _flush(writer: pa.RecordBatchFileWriter, tables: list[pa.Table]) -> None:
    table = pa.concat_tables(tables)
    order = np.argsort(table[DESTINATION].to_numpy(), kind="stable")
    for batch in table.take(pa.array(order)).combine_chunks().to_batches():
        writer.write_batch(batch)


def _margin_rows(
    plan: Plan, partition: int, primary: pa.Schema, schema: pa.Schema
) -> Iterator[tuple[int, pa.Table]]:
    """Yield, for each row group of a partition, its number of rows and its margin rows."""
    info = plan.task.catalog
    order, pixel = int(plan.partitions.orders[partition]), int(plan.partitions.pixels[partition])
    planned = (plan.partitions.sizes[partition], plan.partitions.times[partition])
    try:
        unchanged = partition_state(info, order, pixel) == planned
    except OSError:
        unchanged = False
    if not unchanged:
        raise MarginCacheError(
            f"{Path(info.path, info.dataset, pixel_path(order, pixel, info.suffix))}: was changed "
            "after the run began; start the run again"
        )
    for path in partition_files(info, order, pixel):
        file = open_parquet(path)
        check_columns(info, file.schema_arrow, path)
        check_schema(file.schema_arrow, primary, path)
        try:
            for group in range(file.num_row_groups):
                index, lon, lat = _read_positions(file, group, info, path)
                _check_index(info, index, order, pixel, path)
                rows, destinations = find_margins(plan, partition, index, lon, lat)
                yield (
                    len(index),
                    _take_rows(file, group, rows, destinations, partition, schema),
                )
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from None


def _read_positions(
    file: pq.ParquetFile, group: int, info: CatalogInfo, path: Path
) -> tuple[NDArray[np.integer], NDArray[np.float64], NDArray[np.float64]]:
    """Read the spatial index and the coordinates, in degrees, of a row group."""
    positions = [info.ra_column, info.dec_column]
    columns = positions if info.index_column is None else [info.index_column, *positions]
    table = file.read_row_group(group, columns=columns, use_threads=pa.cpu_count() > 1)
    if info.index_column is not None and table[info.index_column].null_count:
        raise MarginCacheError(
            f"{path}: {table[info.index_column].null_count} rows have a null {info.index_column}; "
            "remove them from the catalog"
        )
    lon, lat = _coordinates(info, table)
    if not _are_positions(lon, lat).all():
        raise MarginCacheError(
            f"{path}: {_count_without_position(file, info)} rows have a null, NaN or impossible "
            f"{info.ra_column} or {info.dec_column}; remove them from the catalog"
        )
    return spatial_index(info, table), lon, lat


def spatial_index(info: CatalogInfo, table: pa.Table) -> NDArray[np.integer]:
    """Return the spatial index of rows: the column, or pixels made from the coordinates."""
    if info.index_column is not None:
        return table[info.index_column].to_numpy()
    lon, lat = _coordinates(info, table)
    return hpgeom.angle_to_pixel(2**info.index_order, lon % 360, lat, nest=True, lonlat=True)


def _are_positions(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which coordinates, in degrees, are a place on the sky; NaN is none."""
    return (np.abs(lon) <= _MOST_LONGITUDE) & (np.abs(lat) <= 90)


def _count_without_position(file: pq.ParquetFile, info: CatalogInfo) -> int:
    table = file.read(columns=[info.ra_column, info.dec_column], use_threads=pa.cpu_count() > 1)
    return int(np.count_nonzero(~_are_positions(*_coordinates(info, table))))


def _coordinates(
    info: CatalogInfo, table: pa.Table
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascensions and declinations in degrees, NaN where they are null."""
    return tuple(
        pc.cast(table[column], pa.float64()).to_numpy()
        for column in (info.ra_column, info.dec_column)
    )


def _check_index(
    info: CatalogInfo, index: NDArray[np.integer], order: int, pixel: int, path: Path
) -> None:
    """Check that the rows of a partition have the spatial index of its pixel.

    Only where it is a column: pixels made from the coordinates may lie beyond the border by a
    rounding error.
    """
    if info.index_column is None or order > info.index_order or not len(index):
        return
    shift = info.index_shift + 2 * (info.index_order - order)
    low, high = pixel << shift, ((pixel + 1) << shift) - 1
    if int(index.min()) < low or int(index.max()) > high:
        outside = np.count_nonzero((index < low) | (index > high))
        raise MarginCacheError(
            f"{path}: {outside} rows have a {info.index_column} outside the partition's pixel; "
            "the catalog is damaged, or its index of another kind"
        )


def find_margins(
    plan: Plan,
    partition: int,
    index: NDArray[np.integer],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the margins that rows of a partition are in.

    Args:
        plan: the plan.
        partition: index of the partition that holds the rows.
        index: values of the spatial index, shape (n,).
        lon: right ascensions in degrees, shape (n,).
        lat: declinations in degrees, shape (n,).

    Returns:
        Pairs of a row and a destination, as two index arrays; ascending rows.
    """
    task = plan.task
    order = int(plan.partitions.orders[partition])
    shift = task.catalog.index_shift + 2 * (task.catalog.index_order - task.cell_order)
    rows = np.arange(len(index))
    if order <= task.cell_order:
        # A row farther than the threshold from its own pixel's border is so from any other pixel.
        rows = np.flatnonzero(touches_border(index, shift, order, task.cell_order))
    cells, which = np.unique(
        (index[rows] >> index.dtype.type(shift)).astype(np.int64), return_inverse=True
    )
    cell, destination = _destinations_around(plan, cells, partition)
    first = np.searchsorted(cell, which)
    last = np.searchsorted(cell, which, side="right")
    pair, place = expand_ranges(first, last)
    rows, destinations = rows[pair], destination[place]
    if task.fine_filtering:
        within = is_within(
            lon[rows],
            lat[rows],
            plan.destination_orders[destinations],
            plan.destination_pixels[destinations],
            task.threshold,
        )
        rows, destinations = rows[within], destinations[within]
    return rows, destinations


def _destinations_around(
    plan: Plan, cells: NDArray[np.int64], partition: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of a cell and a destination that overlaps it or a cell that touches it.

    Args:
        plan: the plan.
        cells: nested pixels of the coarse filter's order, shape (n,).
        partition: the partition that holds the cells; its own pixel is left out.

    Returns:
        Indices of cells, ascending, and of destinations; each pair once.
    """
    starts, ends = pixel_ranges(plan.destination_orders, plan.destination_pixels)
    around = cells_and_neighbours(plan.task.cell_order, cells)
    rows, places = np.nonzero(around >= 0)
    low, high = pixel_ranges(np.full(len(rows), plan.task.cell_order), around[rows, places])
    which, destination = expand_ranges(
        np.searchsorted(ends, low, side="right"), np.searchsorted(starts, high, side="left")
    )
    other = plan.destination_partitions[destination] != partition
    count = len(plan.destination_orders)
    return np.divmod(np.unique(rows[which[other]] * count + destination[other]), count)


def _take_rows(
    file: pq.ParquetFile,
    group: int,
    rows: NDArray[np.int64],
    destinations: NDArray[np.int64],
    partition: int,
    schema: pa.Schema,
) -> pa.Table:
    """Read rows, ascending and repeated, of a row group, in batches, with all columns."""
    if not len(rows):
        return schema.empty_table()
    plain = pa.schema(list(schema)[2:])
    tables, start = [], 0
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=pa.cpu_count() > 1):
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        if high > low:
            table = pa.Table.from_batches([batch]).select(plain.names)
            table = table.replace_schema_metadata().cast(plain)
            tables.append(table.take(pa.array(rows[low:high] - start)))
        start += batch.num_rows
    table = pa.concat_tables(tables)
    table = table.add_column(
        0, schema.field(SOURCE), pa.repeat(pa.scalar(partition, pa.uint32()), len(rows))
    )
    return table.add_column(0, schema.field(DESTINATION), pa.array(destinations, pa.uint32()))
