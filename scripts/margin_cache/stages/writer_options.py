"""The options that PyArrow writes the files of a margin with."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog.columns import without_dictionaries
from margin_cache.parquet.primary_options import (
    TYPES_OF_ENCODINGS,
    ColumnOptions,
    leaf_columns,
)
from margin_cache.planning.model import MarginParameters


def writer_options(parameters: MarginParameters, schema: pa.Schema) -> dict[str, Any]:
    """Return the options of ``pyarrow.parquet.ParquetWriter`` for the files of a margin.

    They are those of the primary's files. Columns that these do not have are written as PyArrow
    does by default, and so is one that has got another type on its way into the margin.

    Args:
        parameters: what shapes the margin.
        schema: the schema of its files.
    """
    primary = parameters.primary_options
    leaves = leaf_columns(schema)
    paths = [path for path, _ in leaves]
    columns = {path: primary.columns.get(path, ColumnOptions()) for path in paths}
    encodings = {path: column.encoding for path, column in columns.items() if column.encoding}
    # PyArrow writes them with any encoding, and cannot read all of that.
    categories = [f"{field.name}." for field in schema if _has_dictionaries(field.type)]
    for path, physical_type in leaves:
        # A name with a dot can be the path of two columns, of different types.
        if physical_type not in TYPES_OF_ENCODINGS.get(encodings.get(path, ""), ()) or any(
            f"{path}.".startswith(name) for name in categories
        ):
            encodings.pop(path, None)
    return {
        "compression": primary.compression,
        "compression_level": primary.compression_level,
        "use_dictionary": [path for path, column in columns.items() if column.dictionary],
        "column_encoding": encodings or None,
        "write_statistics": [path for path, column in columns.items() if column.statistics],
        "data_page_version": primary.data_page_version,
        "data_page_size": primary.page_bytes,
        "dictionary_pagesize_limit": primary.page_bytes,
        "write_page_index": primary.page_index,
        "write_page_checksum": primary.page_checksums,
        "write_time_adjusted_to_utc": primary.utc_times,
        "sorting_columns": [
            pq.SortingColumn(paths.index(path), descending, nulls_first)
            for path, descending, nulls_first in primary.sorting_columns
            if path in paths
        ]
        or None,
    }


def _has_dictionaries(arrow_type: pa.DataType) -> bool:
    return not without_dictionaries(arrow_type).equals(arrow_type)
