"""Selection of rows: all columns of those that are in margins.

Few of many rows are read by Polars (`polars_rows.py`); what it does not read as PyArrow does, and
the rows of small files, by PyArrow, batch by batch. Memory is bounded by batches of rows, and by
groups of columns or the largest column as it is stored, not by the size of a file; of Polars also
by the spatial index of a row group.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.parquet_types import int96_columns
from margin_cache.errors import MarginCacheError
from margin_cache.parquet.column_chunks import groups_of
from margin_cache.parquet.partition_file import PartitionFile
from margin_cache.parquet.polars_rows import Refused, is_read_alike, read_rows
from margin_cache.parquet.positions import read_batches
from margin_cache.storage.parquet_files import read_page_header, unreadable

COLUMNS_BYTES = 8 * 10**6
"""PyArrow reads columns together as long as they take up no more than this in the file."""

ROWS_BYTES = 32 * 10**6
"""Rows are read together as long as they take up about this in memory."""

_LEAST_VALUES, _LEAST_COLUMNS, _FEW_ROWS = 1 << 19, 12, 4
"""Least values and columns of a file that Polars reads, and least rows of it for each one wanted;
else decoding all rows by PyArrow takes no longer."""

_IMPORT_VALUES = 1 << 22
"""Values that PyArrow decodes, in the time by which it is slower, while Polars is imported."""

_passed_over: list[int] = []
"""Values of the files that Polars would have read if it had been imported."""

_MOST_ROWS = 1 << 24
"""Most rows of a row group that Polars reads, whose index it has in memory as a whole."""


def row_batches(part: PartitionFile, rows: int) -> Iterator[slice]:
    """Divide a number of rows such that each batch takes little memory with all columns."""
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
    threads: int,
) -> pa.Table:
    """Read rows of a file with all columns.

    Args:
        part: the file.
        positions: what has been read of these rows already, n rows.
        index: name of the spatial index, which is part of that; None if there is none.
        rows: indices of the rows in the file, ascending, shape (n,); they may be repeated.
        schema: schema of the result, with types that the columns can be cast to.
        threads: threads that decode columns.

    Raises:
        MarginCacheError: the file is damaged.
    """
    taken = {
        name: _cast(positions[name], schema.field(name).type) for name in positions.schema.names
    }
    if _are_few(part, rows):
        values = None
        if index is not None and is_read_alike(part, part.schema.field(index)):
            values = index, positions[index].to_numpy()
        taken |= _select_by_polars(part, values, rows, _without(schema, taken), threads)
    try:
        for columns in _select_groups(part, _without(schema, taken), rows, threads):
            taken |= columns
    except pa.ArrowException as error:
        # Some of what is damaged is found only when values are taken or cast.
        raise unreadable(part.path, error) from None
    for name in int96_columns(part.file):
        if name in taken:
            _check_int96(part, schema.field(name), rows)
    return pa.Table.from_arrays([taken[name] for name in schema.names], schema=schema)


def _check_int96(part: PartitionFile, field: pa.Field, rows: NDArray[np.int64]) -> None:
    """Check that timestamps of the deprecated INT96 fit nanoseconds, as which PyArrow reads them.

    So does whoever reads the primary, hence the margin has that type; but of values that do not fit
    PyArrow makes others, without a word.

    Raises:
        MarginCacheError: some do not fit.
    """
    try:
        file = part.reopened(coerce_int96_timestamp_unit="s")
        seconds = pa.schema([file.schema_arrow.field(field.name)])
        _select_columns(part, file, seconds, rows)[field.name].cast(field.type)
    except pa.ArrowInvalid:
        raise MarginCacheError(
            f"{part.path}: the column {field.name} has timestamps of type INT96 beyond the years "
            "1678 to 2261, which do not fit nanoseconds, as which they are read; write the catalog "
            "again with timestamps in microseconds"
        ) from None
    except OSError as error:
        raise unreadable(part.path, error) from None


def _without(schema: pa.Schema, taken: dict[str, pa.ChunkedArray]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in taken])


def _are_few(part: PartitionFile, rows: NDArray[np.int64]) -> bool:
    """Tell whether Polars is faster than decoding the whole file."""
    footer = part.file.metadata
    groups = map(footer.row_group, range(footer.num_row_groups))
    return (
        footer.num_columns >= _LEAST_COLUMNS
        and footer.num_rows * footer.num_columns >= _LEAST_VALUES
        and footer.num_rows >= _FEW_ROWS * len(rows)
        and all(group.num_rows <= _MOST_ROWS for group in groups)
        and not _has_bare_levels(part, int(rows[0]))
        and _is_worth_its_import(footer.num_rows * footer.num_columns)
    )


def _is_worth_its_import(values: int) -> bool:
    """Tell whether Polars is imported, or has been missed so often that it is worth it.

    So a job spends at most twice the time that it would if it knew what is to come.
    """
    if "polars" in sys.modules:
        return True
    _passed_over.append(values)
    return sum(_passed_over) > _IMPORT_VALUES


def _has_bare_levels(part: PartitionFile, row: int) -> bool:
    """Tell whether what says which values are null is not compressed, as in pages of version 2.

    Polars takes damaged levels that PyArrow refuses.
    """
    # Those of a file are alike, but of a remote one only those with wanted rows are there.
    group = groups_of(part.file.metadata, np.array([row]))[0]
    first = part.file.metadata.row_group(group).column(0).data_page_offset
    return read_page_header(part.path, first).is_second_version


def _select_by_polars(
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    schema: pa.Schema,
    threads: int,
) -> dict[str, pa.ChunkedArray]:
    """Read rows of those columns of a schema that Polars reads as PyArrow does."""
    left = set(int96_columns(part.file))
    columns = pa.schema(
        [
            field
            for field in schema
            if field.name not in left and is_read_alike(part, part.schema.field(field.name))
        ]
    )
    distinct, places = np.unique(rows, return_inverse=True)
    if index is not None:
        index = (index[0], index[1][np.searchsorted(rows, distinct)])
    try:
        taken = read_rows(part, index, distinct, columns, threads)
    except Refused:
        return {}
    if len(distinct) == len(rows):
        return taken
    again = pa.array(places)
    return {name: column.take(again) for name, column in taken.items()}


def _column_groups(part: PartitionFile, schema: pa.Schema) -> list[pa.Schema]:
    """Divide columns of a file such that each part is small in it.

    All columns that are read together are in memory together, with a page and a batch of each.
    """
    groups: list[list[pa.Field]] = []
    room = 0
    for field in schema:
        size = part.sizes[field.name].stored
        if not groups or size > room:
            groups.append([])
            room = COLUMNS_BYTES
        groups[-1].append(field)
        room -= size
    return [pa.schema(fields) for fields in groups]


def _select_groups(
    part: PartitionFile, schema: pa.Schema, rows: NDArray[np.int64], threads: int
) -> Iterator[dict[str, pa.ChunkedArray]]:
    """Read rows of the columns of a schema, some columns after the other, or in each thread."""
    groups = _column_groups(part, schema)
    if threads == 1:
        for columns in groups:
            yield _select_columns(part, part.file, columns, rows)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(
            lambda columns: _select_columns(part, part.reopened(), columns, rows), groups
        )


def _select_columns(
    part: PartitionFile, file: pq.ParquetFile, schema: pa.Schema, rows: NDArray[np.int64]
) -> dict[str, pa.ChunkedArray]:
    """Read rows, ascending and perhaps repeated, of the columns of a schema."""
    taken: list[pa.RecordBatch] = []
    start = 0
    for number in range(file.num_row_groups):
        end = start + file.metadata.row_group(number).num_rows
        low, high = np.searchsorted(rows, [start, end])
        wanted = rows[low:high] - start
        start = end
        if high > low:
            batches = read_batches(part.path, file, [number], schema.names)
            taken += _take_rows(batches, schema, wanted)
    if sum(map(len, taken)) < len(rows):
        raise unreadable(part.path, EOFError("it ends before the last of its rows"))
    return {
        field.name: pa.chunked_array(
            [_cast(batch[field.name], field.type) for batch in taken], field.type
        )
        for field in schema
    }


def _take_rows(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: NDArray[np.int64]
) -> Iterator[pa.RecordBatch]:
    """Take rows, of which the first batch has number 0, from batches."""
    start = 0
    for batch in batches:
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        if high > low:
            # Cast before, since Arrow cannot take rows of some types; of dictionaries it can.
            columns = [
                column if pa.types.is_dictionary(column.type) else _cast(column, field.type)
                for field in schema
                for column in [batch[field.name]]
            ]
            cast = pa.RecordBatch.from_arrays(columns, schema.names)
            yield cast.take(pa.array(rows[low:high] - start))
        start += batch.num_rows


def _cast(
    column: pa.Array | pa.ChunkedArray, arrow_type: pa.DataType
) -> pa.Array | pa.ChunkedArray:
    """Cast a column, but not to the type that it has, which takes as long."""
    return column if column.type == arrow_type else column.cast(arrow_type)
