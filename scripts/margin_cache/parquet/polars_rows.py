"""Reads few rows of a Parquet file with Polars, which decodes only what it needs.

PyArrow decodes all values of a row group, even for few of its rows. Polars decodes the spatial
index, and the values of the other columns for the selected rows only. The result is what PyArrow
would read, bit by bit: PyArrow reads the types for which this is not certain, and the files that
Polars cannot read or reads differently. Only this module imports Polars, when rows are first
selected, because the import takes a tenth of a second.
"""

import os
from functools import cache
from types import ModuleType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import DESTINATION
from margin_cache.parquet.partition_file import PartitionFile, column_groups

_LEAST_BYTES, _MOST_BYTES = 32 << 20, 256 << 20
"""Limits of ``most_bytes_together``."""

_ROW = DESTINATION
"""Name for the numbers of rows, which no column of a catalog has."""

_EQUAL_TYPES = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_decimal128,
    pa.types.is_date32,
)
"""Types without children that Polars and PyArrow read equally."""

_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

_CHECKED_CODECS = {"SNAPPY", "ZSTD", "BROTLI"}
"""Codecs with which Polars notices most damage. With GZIP, only PyArrow compares checksums; without
compression or with LZ4, Polars accepts codes and lengths that PyArrow rejects."""


class PolarsFailed(Exception):
    """Polars cannot read the rows, or reads others than the selected ones."""


def is_supported(part: PartitionFile, field: pa.Field) -> bool:
    """Return whether Polars reads a column, with its type in the file, exactly as PyArrow does."""
    # Polars takes these names as patterns.
    if field.name == "*" or field.name.startswith("^"):
        return False
    if not part.sizes[field.name].codecs <= _CHECKED_CODECS:
        return False
    arrow_type = field.type
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
        return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)
    return _is_supported_type(arrow_type)


def _is_supported_type(arrow_type: pa.DataType) -> bool:
    if any(is_of(arrow_type) for is_of in _EQUAL_TYPES):
        return True
    if pa.types.is_timestamp(arrow_type):
        # Polars converts seconds, and rejects most names of time zones.
        return arrow_type.unit != "s" and arrow_type.tz in (None, "UTC")
    if pa.types.is_duration(arrow_type):
        return arrow_type.unit != "s"
    if any(is_of(arrow_type) for is_of in _LISTS):
        return _is_supported_type(arrow_type.value_type)
    # No maps: of equal keys, Polars keeps the last one only.
    return pa.types.is_struct(arrow_type) and all(
        _is_supported_type(field.type) for field in arrow_type
    )


def most_bytes_together(index_bytes: int) -> int:
    """Return the most bytes of a row group that columns may have that are read together.

    The spatial index, of ``index_bytes``, is read again for each group of columns; so a group may
    have four times its size.
    """
    return min(max(4 * index_bytes, _LEAST_BYTES), _MOST_BYTES)


def read_rows(
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    schema: pa.Schema,
) -> dict[str, pa.ChunkedArray]:
    """Read rows of a file.

    Args:
        part: the file.
        index: name of the spatial index, and its values of the rows, shape (n,); None if the
            catalog has no index.
        rows: indices of the rows in the file, ascending, each once, shape (n,).
        schema: the columns to read, which are all supported, and the types to cast them to.

    Raises:
        PolarsFailed: Polars cannot read the file, or the file was replaced.
    """
    polars = _import_polars()
    # Polars does not use the memory that PyArrow keeps for itself.
    pa.default_memory_pool().release_unused()
    columns: dict[str, pa.ChunkedArray] = {}
    try:
        limit = most_bytes_together(part.sizes[index[0]].stored if index is not None else 0)
        for names in column_groups(part, schema.names, limit, len(rows)):
            table = _collect(polars, part, index, rows, names)
            for name in names:
                columns[name] = _cast(table[name], schema.field(name).type)
    except (
        polars.exceptions.PolarsError,
        polars.exceptions.PanicException,
        pa.ArrowException,
        OSError,
        MemoryError,
    ) as error:
        raise PolarsFailed(str(error)) from None
    return columns


def _collect(
    polars: ModuleType,
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    names: list[str],
) -> pa.Table:
    """Read rows of some columns.

    By the index alone, if there is one: few other rows have the same. Selecting by row number too
    can take a tenth of a map job's time.
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
    frame = scan.filter(condition).select(_ROW, *names).collect()
    if len(frame) > len(rows):
        # The others have the same index as selected rows.
        frame = frame.filter(polars.Series(np.isin(frame[_ROW].to_numpy(), rows)))
    table = frame.to_arrow()
    if not np.array_equal(table[_ROW].to_numpy(), rows):
        raise PolarsFailed("Polars finds other rows")
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
