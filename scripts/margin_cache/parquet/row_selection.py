"""Reads all columns of selected rows.

Polars reads few rows of large files: it decodes the spatial index, and the values of the other
columns for the selected rows only, where PyArrow decodes whole row groups. The result is what
PyArrow would read, bit by bit: PyArrow reads the types for which this is not certain, and the files
that Polars cannot read or reads differently. Memory is bounded by batches of rows and groups of
columns, not by the size of a file; for Polars also by the spatial index of a row group.
"""

import os
from collections.abc import Container, Iterator
from functools import cache
from types import ModuleType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import DESTINATION, LISTS, cast_column
from margin_cache.parquet.footers import int96_columns, row_groups
from margin_cache.parquet.partition_file import PartitionFile, column_groups, read_batches
from margin_cache.storage.catalog_files import unreadable

COLUMNS_BYTES = 8 * 10**6  # most bytes in the file of columns that PyArrow reads together
ROWS_BYTES = 32 * 10**6  # approximate most bytes in memory of rows that are read together

_LEAST_VALUES, _LEAST_COLUMNS, _FEW_ROWS = 1 << 19, 12, 4
"""Least values and columns of a file that Polars reads, and least rows of it for each selected one:
below, PyArrow is as fast."""

_IMPORT_VALUES = 3 << 20
"""Values of such files that PyArrow reads before Polars is imported: importing it takes as long as
it saves with ten times as many."""

_values_for_polars: list[int] = []  # of the files that Polars would read if it were imported

_MOST_ROWS = 1 << 24
"""Most rows of a row group that Polars reads: it keeps the index of all of them in memory."""

_LEAST_BYTES, _MOST_BYTES = 32 << 20, 256 << 20  # limits of ``most_bytes_together``
_ROW = DESTINATION  # name for the numbers of rows, which no column of a catalog has

_EQUAL_TYPES = (
    *(pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_date32),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary),
    *(pa.types.is_fixed_size_binary, pa.types.is_decimal128),
)
"""Types without children that Polars and PyArrow read equally."""

_CHECKED_CODECS = {"SNAPPY", "ZSTD", "BROTLI"}
"""Codecs with which Polars notices most damage. With GZIP, only PyArrow compares checksums; without
compression or with LZ4, Polars accepts codes and lengths that PyArrow rejects."""


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
    """Read n rows of a file with all columns of a schema, in its types.

    ``positions`` has the columns that were read before, n rows, among them the spatial ``index`` if
    the catalog has one. ``rows`` are numbers in the file, ascending, perhaps repeated.
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
        taken |= read_rows(part, values, rows, _without(schema, taken))
    try:
        columns = _without(schema, taken)
        for names in column_groups(part, columns.names, COLUMNS_BYTES):
            together = pa.schema([columns.field(name) for name in names])
            taken |= _select_columns(part, together, rows)
    except pa.ArrowException as error:
        # Some damage is noticed only when values are taken or cast.
        raise unreadable(part.path, error) from None
    return pa.Table.from_arrays([taken[name] for name in schema.names], schema=schema)


def _without(schema: pa.Schema, names: Container[str]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in names])


def _are_few(part: PartitionFile, rows: NDArray[np.int64]) -> bool:
    """Return whether so few rows are selected that Polars is faster than decoding all."""
    footer = part.file.metadata
    values = footer.num_rows * footer.num_columns
    if (
        footer.num_columns < _LEAST_COLUMNS
        or values < _LEAST_VALUES
        or footer.num_rows < _FEW_ROWS * len(rows)
        or any(group.num_rows > _MOST_ROWS for group in row_groups(footer))
    ):
        return False
    if sum(_values_for_polars) <= _IMPORT_VALUES:
        _values_for_polars.append(values)
    return sum(_values_for_polars) > _IMPORT_VALUES


def _select_columns(
    part: PartitionFile, schema: pa.Schema, rows: NDArray[np.int64]
) -> dict[str, pa.ChunkedArray]:
    taken: dict[str, list[pa.Array]] = {field.name: [] for field in schema}
    row_bytes = sum(part.sizes[name].row for name in schema.names)
    start = count = 0
    for number, group in enumerate(row_groups(part.file.metadata)):
        end = start + group.num_rows
        has_rows = np.searchsorted(rows, start) < np.searchsorted(rows, end)
        for batch in read_batches(part, [number], schema.names, row_bytes) if has_rows else ():
            low, high = np.searchsorted(rows, [start, start + batch.num_rows])
            for field in schema if high > low else ():
                column = batch[field.name]
                # Arrow cannot take rows of views. Of dictionaries, only taken rows are cast.
                if not pa.types.is_dictionary(column.type):
                    column = cast_column(column, field, part.path)
                selected = column.take(pa.array(rows[low:high] - start))
                taken[field.name].append(cast_column(selected, field, part.path))
            count += high - low
            start += batch.num_rows
        start = end
    if count < len(rows):
        raise unreadable(part.path, EOFError("it ends before the last of its rows"))
    return {field.name: pa.chunked_array(taken[field.name], field.type) for field in schema}


def is_supported(part: PartitionFile, field: pa.Field) -> bool:
    """Return whether Polars reads a column, with its type in the file, exactly as PyArrow does."""
    is_pattern = field.name == "*" or field.name.startswith("^")
    if is_pattern or not part.sizes[field.name].codecs <= _CHECKED_CODECS:
        return False
    arrow_type = field.type
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
        return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)
    return _is_supported_type(arrow_type)


def _is_supported_type(arrow_type: pa.DataType) -> bool:
    if any(is_of(arrow_type) for is_of in _EQUAL_TYPES):
        return True
    # Polars converts seconds, and rejects most names of time zones.
    if pa.types.is_timestamp(arrow_type):
        return arrow_type.unit != "s" and arrow_type.tz in (None, "UTC")
    if pa.types.is_duration(arrow_type):
        return arrow_type.unit != "s"
    if any(is_of(arrow_type) for is_of in LISTS):
        return _is_supported_type(arrow_type.value_type)
    # No maps: of equal keys, Polars keeps the last one only.
    return pa.types.is_struct(arrow_type) and all(
        _is_supported_type(field.type) for field in arrow_type
    )


def most_bytes_together(index_bytes: int) -> int:
    """Return the most bytes of columns in a group; for each group, the index is read again."""
    return min(max(4 * index_bytes, _LEAST_BYTES), _MOST_BYTES)


def read_rows(
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    schema: pa.Schema,
) -> dict[str, pa.ChunkedArray]:
    """Read rows with Polars, those columns of the schema that it supports; {} if it fails.

    ``rows`` are numbers in the file, ascending, perhaps repeated. ``index`` is the name of the
    spatial index and its values in these rows, by which they are found; None if there is none.
    """
    unsupported = int96_columns(part.file)
    unsupported |= {
        name for name in schema.names if not is_supported(part, part.schema.field(name))
    }
    distinct, repeats = np.unique(rows, return_inverse=True)
    if index is not None:
        index = (index[0], index[1][np.searchsorted(rows, distinct)])
    polars = _import_polars()
    # Polars does not use the memory that PyArrow keeps for itself.
    pa.default_memory_pool().release_unused()
    columns: dict[str, pa.ChunkedArray] = {}
    try:
        limit = most_bytes_together(part.sizes[index[0]].stored if index is not None else 0)
        supported = _without(schema, unsupported).names
        for names in column_groups(part, supported, limit, len(distinct)):
            table = _collect(polars, part, index, distinct, names)
            for name in names:
                columns[name] = _cast(table[name], schema.field(name).type)
    except (
        polars.exceptions.PolarsError,
        polars.exceptions.PanicException,
        pa.ArrowException,
        OSError,
        MemoryError,
    ):
        return {}
    if len(distinct) == len(rows):
        return columns
    return {name: column.take(pa.array(repeats)) for name, column in columns.items()}


def _collect(
    polars: ModuleType,
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    names: list[str],
) -> pa.Table:
    """Read rows of some columns, which are found by the index, if there is one.

    Few other rows have the same; also looking for numbers can take a tenth of a map job's time.
    """
    name, values = (_ROW, rows.astype(np.uint32)) if index is None else index
    condition = polars.col(name).is_in(polars.Series(np.unique(values)).implode())
    scan = polars.scan_parquet(
        part.local_path.absolute(),
        parallel="prefiltered",
        row_index_name=_ROW,
        # Statistics may be wrong, and nearly all row groups have selected rows.
        use_statistics=False,
        hive_partitioning=False,
        glob=False,
    )
    frame = scan.filter(condition).select(polars.col(_ROW, *names)).collect()
    if len(frame) > len(rows):
        # The others have the same index as selected rows.
        frame = frame.filter(polars.Series(np.isin(frame[_ROW].to_numpy(), rows)))
    table = frame.to_arrow()
    if not np.array_equal(table[_ROW].to_numpy(), rows):
        raise polars.exceptions.ComputeError("Polars finds other rows")
    return table


def _cast(column: pa.ChunkedArray, arrow_type: pa.DataType) -> pa.ChunkedArray:
    """Cast a column, also if only the names of nested fields differ, which ``==`` ignores."""
    same = pa.field("", column.type).equals(pa.field("", arrow_type), check_metadata=True)
    return column if same else column.cast(arrow_type)


@cache
def _import_polars() -> ModuleType:
    """Import Polars with one thread, which cannot be changed afterwards."""
    os.environ |= {
        "POLARS_MAX_THREADS": "1",
        "POLARS_ASYNC_THREAD_COUNT": "1",
        # Row groups that are loaded before they are decoded.
        "POLARS_ROW_GROUP_PREFETCH_SIZE": "1",
        # Files in the cache of the system are read one column at a time.
        "POLARS_FILE_DEFER_CACHED_READS": "1",
        # Threads free what other threads allocated, and each arena would keep its own.
        "_RJEM_MALLOC_CONF": "narenas:1",
    }
    import polars

    return polars
