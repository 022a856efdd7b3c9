"""Reads all columns of selected rows.

Polars reads few rows of large files (``polars_rows``). PyArrow reads all others, and the columns
that Polars does not support, batch by batch. Memory is bounded by batches of rows, and by groups of
columns or the largest column as stored, not by the size of a file; for Polars also by the spatial
index of a row group.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import cast_column
from margin_cache.parquet.footers import int96_columns, row_groups
from margin_cache.parquet.partition_file import PartitionFile, column_groups
from margin_cache.parquet.polars_rows import PolarsFailed, is_supported, read_rows
from margin_cache.parquet.positions import read_batches
from margin_cache.storage.parquet_files import unreadable

COLUMNS_BYTES = 8 * 10**6
"""Most bytes in the file of columns that PyArrow reads together: of all of them, a page and a batch
are in memory."""

ROWS_BYTES = 32 * 10**6
"""Approximate most bytes in memory of rows that are read together."""

_LEAST_VALUES, _LEAST_COLUMNS, _FEW_ROWS = 1 << 19, 12, 4
"""Least values and columns of a file that Polars reads, and least rows of it for each selected one:
below, PyArrow is as fast."""

_MOST_ROWS = 1 << 24
"""Most rows of a row group that Polars reads: it keeps the index of all of them in memory."""


def row_batches(part: PartitionFile, rows: int) -> Iterator[slice]:
    """Divide a number of rows into batches that take little memory with all columns."""
    size = sum(column.row for column in part.sizes.values())
    step = max(1, int(ROWS_BYTES / max(size, 1)))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def select_rows(
    part: PartitionFile,
    positions: pa.Table,
    index: str | None,
    rows: NDArray[np.int64],
    schema: pa.Schema,
) -> pa.Table:
    """Read rows of a file with all columns.

    Args:
        part: the file.
        positions: columns that were read before, n rows.
        index: name of the spatial index, one of these; None if the catalog has none.
        rows: indices of the rows in the file, ascending, perhaps repeated, shape (n,).
        schema: schema of the result, with types that the columns can be cast to.
    """
    taken = {
        name: cast_column(positions[name], schema.field(name), part.path)
        for name in positions.schema.names
    }
    for field in schema:
        if field.name not in part.schema.names:  # a column of the paths
            taken[field.name] = pa.nulls(len(rows), field.type)
    if _are_few(part, rows):
        values = None
        if index is not None and is_supported(part, part.schema.field(index)):
            values = index, positions[index].to_numpy()
        taken |= _select_by_polars(part, values, rows, _without(schema, taken))
    try:
        columns = _without(schema, taken)
        for names in column_groups(part, columns.names, COLUMNS_BYTES):
            together = pa.schema([columns.field(name) for name in names])
            taken |= _select_columns(part, together, rows)
    except pa.ArrowException as error:
        # Some damage is noticed only when values are taken or cast.
        raise unreadable(part.path, error) from None
    return pa.Table.from_arrays([taken[name] for name in schema.names], schema=schema)


def _without(schema: pa.Schema, taken: dict[str, pa.ChunkedArray]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in taken])


def _are_few(part: PartitionFile, rows: NDArray[np.int64]) -> bool:
    """Return whether so few of the file's rows are selected that Polars is faster than PyArrow.

    PyArrow decodes the whole file.
    """
    footer = part.file.metadata
    return (
        footer.num_columns >= _LEAST_COLUMNS
        and footer.num_rows * footer.num_columns >= _LEAST_VALUES
        and footer.num_rows >= _FEW_ROWS * len(rows)
        and all(group.num_rows <= _MOST_ROWS for group in row_groups(footer))
    )


def _select_by_polars(
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    schema: pa.Schema,
) -> dict[str, pa.ChunkedArray]:
    """Read the columns that Polars supports; none if it fails."""
    unsupported = set(int96_columns(part.file))
    columns = pa.schema(
        [
            field
            for field in schema
            if field.name not in unsupported and is_supported(part, part.schema.field(field.name))
        ]
    )
    distinct, positions = np.unique(rows, return_inverse=True)
    if index is not None:
        index = (index[0], index[1][np.searchsorted(rows, distinct)])
    try:
        taken = read_rows(part, index, distinct, columns)
    except PolarsFailed:
        return {}
    if len(distinct) == len(rows):
        return taken
    again = pa.array(positions)
    return {name: column.take(again) for name, column in taken.items()}


def _select_columns(
    part: PartitionFile, schema: pa.Schema, rows: NDArray[np.int64]
) -> dict[str, pa.ChunkedArray]:
    """Read rows of columns."""
    taken: list[pa.RecordBatch] = []
    row_bytes = sum(part.sizes[name].row for name in schema.names)
    start = 0
    for number, group in enumerate(row_groups(part.file.metadata)):
        end = start + group.num_rows
        low, high = np.searchsorted(rows, [start, end])
        selected = rows[low:high] - start
        start = end
        if high > low:
            batches = read_batches(part.path, part.file, [number], schema.names, row_bytes)
            taken += _take_rows(part.path, batches, schema, selected)
    if sum(map(len, taken)) < len(rows):
        raise unreadable(part.path, EOFError("it ends before the last of its rows"))
    return {
        field.name: pa.chunked_array(
            [cast_column(batch[field.name], field, part.path) for batch in taken], field.type
        )
        for field in schema
    }


def _take_rows(
    path: str, batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: NDArray[np.int64]
) -> Iterator[pa.RecordBatch]:
    """Take rows, counted from the first row of the first batch, from batches."""
    start = 0
    for batch in batches:
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        if high > low:
            # Cast first, because Arrow cannot take rows of some types, such as views.
            columns = [
                column if pa.types.is_dictionary(column.type) else cast_column(column, field, path)
                for field in schema
                for column in [batch[field.name]]
            ]
            cast = pa.RecordBatch.from_arrays(columns, schema.names)
            yield cast.take(pa.array(rows[low:high] - start))
        start += batch.num_rows
