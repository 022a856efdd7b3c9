"""Reading of partitions: the positions of all rows, and the other columns of some.

Memory is bounded by batches of rows and groups of columns, not by the size of a partition or of
its row groups.
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

from margin_cache.catalog import (
    CatalogInfo,
    check_columns,
    check_schema,
    open_parquet,
    partition_files,
    partition_state,
    pixel_path,
    unreadable,
)
from margin_cache.errors import MarginCacheError
from margin_cache.plan import Plan

BATCH_ROWS = 1 << 16
"""Rows of a row group that are decoded at once."""

COLUMNS_BYTES = 8 * 10**6
"""Columns are read together as long as they take up no more than this in the file."""

_MOST_LONGITUDE = 720.0
"""Right ascensions may be negative, or beyond a whole turn; more than two are a mistake."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a partition.

    Attributes:
        partition: index of the partition in the plan.
        path: the file.
        file: the same, open.
        number: number of the row group in the file.
    """

    partition: int
    path: Path
    file: pq.ParquetFile
    number: int


def row_groups_of(plan: Plan, partition: int, primary: pa.Schema) -> Iterator[RowGroup]:
    """Yield the row groups of a partition.

    Raises:
        MarginCacheError: the partition is damaged, differs from the catalog's schema, or changed
            after planning.
    """
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
        schema = file.schema_arrow
        check_columns(info, schema, path)
        check_schema(schema, primary, path)
        for number in range(file.num_row_groups):
            yield RowGroup(partition, path, file, number)


def read_positions(plan: Plan, group: RowGroup) -> Iterator[pa.Table]:
    """Yield the spatial index and the coordinates of a row group's rows, batch by batch.

    Raises:
        MarginCacheError: rows have no coordinates, or an index that is not in the partition.
    """
    info = plan.task.catalog
    positions = [info.ra_column, info.dec_column]
    columns = positions if info.index_column is None else [info.index_column, *positions]
    for batch in _batches(group, columns):
        table = pa.Table.from_batches([batch]).replace_schema_metadata()
        if info.index_column is not None and table[info.index_column].null_count:
            nulls = pq.ParquetFile(group.path).read(columns=[info.index_column])
            raise MarginCacheError(
                f"{group.path}: {nulls[0].null_count} rows have a null {info.index_column}; "
                "remove them from the catalog"
            )
        if not _are_positions(*coordinates(info, table)).all():
            raise MarginCacheError(
                f"{group.path}: {_count_without_position(group.file, info)} rows have a null, NaN "
                f"or impossible {info.ra_column} or {info.dec_column}; remove them from the catalog"
            )
        _check_index(plan, group, spatial_index(info, table))
        yield table


def _batches(group: RowGroup, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from group.file.iter_batches(
            BATCH_ROWS,
            row_groups=[group.number],
            columns=columns,
            use_threads=pa.cpu_count() > 1,
        )
    except (pa.ArrowException, OSError) as error:
        raise unreadable(group.path, error) from None


def spatial_index(info: CatalogInfo, table: pa.Table) -> NDArray[np.integer]:
    """Return the spatial index of rows: the column, or pixels made from the coordinates."""
    if info.index_column is not None:
        return table[info.index_column].to_numpy()
    lon, lat = coordinates(info, table)
    return hpgeom.angle_to_pixel(2**info.index_order, lon % 360, lat, nest=True, lonlat=True)


def _are_positions(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which coordinates, in degrees, are a place on the sky; NaN is none."""
    return (np.abs(lon) <= _MOST_LONGITUDE) & (np.abs(lat) <= 90)


def _count_without_position(file: pq.ParquetFile, info: CatalogInfo) -> int:
    table = file.read(columns=[info.ra_column, info.dec_column], use_threads=pa.cpu_count() > 1)
    return int(np.count_nonzero(~_are_positions(*coordinates(info, table))))


def coordinates(
    info: CatalogInfo, table: pa.Table
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascensions and declinations in degrees, NaN where they are null."""
    return tuple(
        pc.cast(table[column], pa.float64()).to_numpy()
        for column in (info.ra_column, info.dec_column)
    )


def _check_index(plan: Plan, group: RowGroup, index: NDArray[np.integer]) -> None:
    """Check that rows of a partition have the spatial index of its pixel.

    Only where it is a column: pixels made from the coordinates may lie beyond the border by a
    rounding error.
    """
    info = plan.task.catalog
    order = int(plan.partitions.orders[group.partition])
    pixel = int(plan.partitions.pixels[group.partition])
    if info.index_column is None or order > info.index_order or not len(index):
        return
    shift = info.index_shift + 2 * (info.index_order - order)
    low, high = pixel << shift, ((pixel + 1) << shift) - 1
    if int(index.min()) < low or int(index.max()) > high:
        column = group.file.read(columns=[info.index_column])[0].to_numpy()
        outside = np.count_nonzero((column < low) | (column > high))
        raise MarginCacheError(
            f"{group.path}: {outside} rows have a {info.index_column} outside the partition's "
            "pixel; the catalog is damaged, or its index of another kind"
        )


def take_rows(
    group: RowGroup, positions: pa.Table, rows: NDArray[np.int64], schema: pa.Schema
) -> pa.Table:
    """Read rows of a row group with all columns.

    Args:
        group: the row group.
        positions: what has been read of these rows already, n rows.
        rows: indices of the rows in the row group, ascending, shape (n,); they may be repeated.
        schema: schema of the result, with types that the columns can be cast to.
    """
    taken = {name: positions[name].cast(schema.field(name).type) for name in positions.column_names}
    others = [name for name in schema.names if name not in taken]
    for names in _column_groups(group, others):
        taken |= _take_columns(group, pa.schema([schema.field(name) for name in names]), rows)
    return pa.Table.from_arrays([taken[name] for name in schema.names], schema=schema)


def _column_groups(group: RowGroup, names: list[str]) -> list[list[str]]:
    """Divide columns of a row group such that each part is small in the file.

    All columns that are read together are in memory together, with all their pages.
    """
    metadata = group.file.metadata.row_group(group.number)
    sizes = dict.fromkeys(names, 0)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        # The name of a column inside others begins with theirs, and names may have dots.
        path = column.path_in_schema
        while path and path not in sizes:
            path = path.rpartition(".")[0]
        if path:
            sizes[path] += column.total_compressed_size
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = COLUMNS_BYTES
        groups[-1].append(name)
        room -= size
    return groups


def _take_columns(
    group: RowGroup, schema: pa.Schema, rows: NDArray[np.int64]
) -> dict[str, pa.ChunkedArray]:
    """Read rows, ascending and perhaps repeated, of the columns of a schema."""
    tables, start = [], 0
    for batch in _batches(group, schema.names):
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        if high > low:
            table = pa.Table.from_batches([batch]).select(schema.names).replace_schema_metadata()
            # Cast first: there are types of which Arrow cannot take rows.
            tables.append(table.cast(schema).take(pa.array(rows[low:high] - start)))
        start += batch.num_rows
    table = pa.concat_tables(tables)
    return {name: table[name] for name in schema.names}
