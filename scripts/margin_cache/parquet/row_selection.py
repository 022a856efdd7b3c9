"""Selection of rows: all columns of those that are in margins.

Memory is bounded by batches of rows, and by groups of columns or the largest column as it is
stored, not by the size of a row group.
"""

from collections import Counter
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.parquet_types import int96_columns
from margin_cache.errors import MarginCacheError
from margin_cache.parquet.column_chunks import DICTIONARIES, ENCODINGS, find_chunk
from margin_cache.parquet.page_headers import NotTaken
from margin_cache.parquet.pages import RowTaker
from margin_cache.parquet.positions import RowGroup, read_batches
from margin_cache.storage.parquet_file import unreadable

COLUMNS_BYTES = 8 * 10**6
"""Columns are read together as long as they take up no more than this in the file."""

_LEAST_ROWS, _FEW_ROWS = 1 << 14, 8
"""Least rows of a row group whose pages are looked into, and least rows of it for each one wanted;
else PyArrow's decoding of all rows takes no longer."""

_LENGTH_BYTES = 4
"""What the length of a string takes in a page of encoding PLAIN."""


def select_rows(
    group: RowGroup,
    positions: pa.Table,
    rows: NDArray[np.int64],
    schema: pa.Schema,
    threads: int,
) -> pa.Table:
    """Read rows of a row group with all columns.

    Args:
        group: the row group.
        positions: what has been read of these rows already, n rows.
        rows: indices of the rows in the row group, ascending, shape (n,); they may be repeated.
        schema: schema of the result, with types that the columns can be cast to.
        threads: threads that decode columns.

    Raises:
        MarginCacheError: the file is damaged.
    """
    taken = {
        name: _cast(positions[name], schema.field(name).type) for name in positions.schema.names
    }
    # With more than one thread, PyArrow decodes columns side by side.
    if threads == 1 and _are_few(group, rows):
        taken |= _select_from_pages(group, _without(schema, taken), rows)
    rest = _without(schema, taken)
    encoded = _dictionary_columns(group, rest)
    file = _open_with_dictionaries(group, encoded) if encoded else group.file
    for columns in _column_groups(group, rest):
        taken |= _select_columns(group, file, columns, rows, threads)
    for name in int96_columns(group.file):
        if name in taken:
            _check_int96(group, schema.field(name), rows, threads)
    return pa.Table.from_arrays([taken[name] for name in schema.names], schema=schema)


def _check_int96(group: RowGroup, field: pa.Field, rows: NDArray[np.int64], threads: int) -> None:
    """Check that timestamps of the deprecated INT96 fit nanoseconds, as which PyArrow reads them.

    So does whoever reads the primary, hence the margin has that type; but of values that do not fit
    PyArrow makes others, without a word.

    Raises:
        MarginCacheError: some do not fit.
    """
    try:
        file = pq.ParquetFile(
            group.source,
            metadata=group.file.metadata,
            coerce_int96_timestamp_unit="s",
            pre_buffer=False,
        )
        seconds = pa.schema([file.schema_arrow.field(field.name)])
        _select_columns(group, file, seconds, rows, threads)[field.name].cast(field.type)
    except pa.ArrowInvalid:
        raise MarginCacheError(
            f"{group.path}: the column {field.name} has timestamps of type INT96 beyond the years "
            "1678 to 2261, which do not fit nanoseconds, as which they are read; write the catalog "
            "again with timestamps in microseconds"
        ) from None
    except OSError as error:
        raise unreadable(group.path, error) from None


def _without(schema: pa.Schema, taken: dict[str, pa.ChunkedArray]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in taken])


def _are_few(group: RowGroup, rows: NDArray[np.int64]) -> bool:
    """Tell whether reading single pages is faster than decoding the whole row group."""
    all_rows = group.file.metadata.row_group(group.number).num_rows
    return all_rows >= max(_LEAST_ROWS, _FEW_ROWS * len(rows))


def _select_from_pages(
    group: RowGroup, schema: pa.Schema, rows: NDArray[np.int64]
) -> dict[str, pa.ChunkedArray]:
    """Read rows of those columns of a schema whose pages can be looked into."""
    metadata = group.file.metadata.row_group(group.number)
    columns = _columns_by_path(group.file)
    taken: dict[str, pa.ChunkedArray] = {}
    taker = RowTaker(group.source, rows)
    for field in schema:
        if field.name not in columns:
            continue
        number, column = columns[field.name]
        chunk = find_chunk(metadata.column(number), column, field.type)
        if chunk is None:
            continue
        try:
            taken[field.name] = pa.chunked_array([taker.take(chunk)])
        except NotTaken:
            continue
    return taken


@lru_cache(maxsize=1)
def _columns_by_path(file: pq.ParquetFile) -> dict[str, tuple[int, pq.ColumnSchema]]:
    """Return the columns of a file and their numbers by their paths, but for ambiguous ones.

    A path may be that of a column whose name has dots, and of one inside others as well.
    """
    columns = [file.schema.column(number) for number in range(file.metadata.num_columns)]
    count = Counter(column.path for column in columns)
    return {
        column.path: (number, column)
        for number, column in enumerate(columns)
        if count[column.path] == 1
    }


def _dictionary_columns(group: RowGroup, schema: pa.Schema) -> list[str]:
    """Return the names of columns of strings that are dictionary-encoded throughout.

    Writers give up the dictionary where strings are many. Without one, a string takes four bytes
    at least. Of strings in other encodings, PyArrow cannot make a dictionary.
    """
    metadata = group.file.metadata.row_group(group.number)
    encoded = set()
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        if (
            column.physical_type == "BYTE_ARRAY"
            and not DICTIONARIES.isdisjoint(column.encodings)
            and ENCODINGS.issuperset(column.encodings)
            and column.total_uncompressed_size < _LENGTH_BYTES * column.num_values
        ):
            encoded.add(column.path_in_schema)
    strings = (pa.string(), pa.large_string())
    return [field.name for field in schema if field.name in encoded and field.type in strings]


def _open_with_dictionaries(group: RowGroup, names: list[str]) -> pq.ParquetFile:
    """Open a file such that columns of strings are read as dictionary arrays.

    So the strings of rows that are not wanted are never made.
    """
    try:
        return pq.ParquetFile(
            group.source, metadata=group.file.metadata, read_dictionary=names, pre_buffer=False
        )
    except (pa.ArrowException, OSError) as error:
        raise unreadable(group.path, error) from None


def _column_groups(group: RowGroup, schema: pa.Schema) -> list[pa.Schema]:
    """Divide columns of a row group such that each part is small in the file.

    All columns that are read together are in memory together, with all their pages.
    """
    metadata = group.file.metadata.row_group(group.number)
    sizes = dict.fromkeys(schema.names, 0)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        # The name of a column inside others begins with theirs, and names may have dots.
        path = column.path_in_schema
        while path and path not in sizes:
            path = path.rpartition(".")[0]
        if path:
            sizes[path] += column.total_compressed_size
    groups: list[list[pa.Field]] = []
    room = 0
    for name, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = COLUMNS_BYTES
        groups[-1].append(schema.field(name))
        room -= size
    return [pa.schema(fields) for fields in groups]


def _select_columns(
    group: RowGroup,
    file: pq.ParquetFile,
    schema: pa.Schema,
    rows: NDArray[np.int64],
    threads: int,
) -> dict[str, pa.ChunkedArray]:
    """Read rows, ascending and perhaps repeated, of the columns of a schema."""
    taken: list[pa.RecordBatch] = []
    start = 0
    for batch in read_batches(group, file, schema.names, threads):
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        if high > low:
            # Cast before, since Arrow cannot take rows of some types; of dictionaries it can.
            columns = [
                column if pa.types.is_dictionary(column.type) else _cast(column, field.type)
                for field in schema
                for column in [batch[field.name]]
            ]
            cast = pa.RecordBatch.from_arrays(columns, schema.names)
            taken.append(cast.take(pa.array(rows[low:high] - start)))
        start += batch.num_rows
    return {
        field.name: pa.chunked_array(
            [_cast(batch[field.name], field.type) for batch in taken], field.type
        )
        for field in schema
    }


def _cast(
    column: pa.Array | pa.ChunkedArray, arrow_type: pa.DataType
) -> pa.Array | pa.ChunkedArray:
    """Cast a column, but not to the type that it has, which takes as long."""
    return column if column.type == arrow_type else column.cast(arrow_type)
