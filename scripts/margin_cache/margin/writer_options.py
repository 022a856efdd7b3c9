"""The options that PyArrow writes the files of a margin with."""

from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog.columns import without_dictionaries
from margin_cache.errors import MarginCacheError
from margin_cache.parquet.primary_options import (
    TYPES_OF_ENCODINGS,
    ColumnOptions,
    leaf_columns,
)
from margin_cache.planning.model import MarginParameters

_ROW_GROUP_SIZE = "row_group_size"

_SIZES = (
    _ROW_GROUP_SIZE,
    "data_page_size",
    "dictionary_pagesize_limit",
    "max_rows_per_page",
    "write_batch_size",
)

_ALLOWED = (
    *_SIZES,
    "column_encoding",
    "compression",
    "compression_level",
    "data_page_version",
    "use_byte_stream_split",
    "use_content_defined_chunking",
    "use_dictionary",
    "write_page_checksum",
    "write_page_index",
    "write_statistics",
)
"""Options in ``write_table_kwargs``: those that change no column's type or values."""

_REFUSALS = (pa.ArrowException, AttributeError, OSError, OverflowError, TypeError, ValueError)
"""Raised by PyArrow for options that it does not accept."""


def writer_options(parameters: MarginParameters, schema: pa.Schema) -> dict[str, Any]:
    """Return the options of ``pyarrow.parquet.ParquetWriter`` for files of a schema.

    They are those of the primary's files, overridden by ``write_table_kwargs`` in the way of hats.
    Columns that the primary's files do not have, or have with another type, get PyArrow's defaults.
    """
    primary, overrides = parameters.primary_options, dict(parameters.write_table_kwargs)
    leaves = leaf_columns(schema)
    columns = {path: primary.columns.get(path, ColumnOptions()) for path, _ in leaves}
    # PyArrow writes dictionaries with any encoding, but cannot read all of that.
    categories = tuple(
        f"{field.name}."
        for field in schema
        if not without_dictionaries(field.type).equals(field.type)
    )
    encodings = {
        path: columns[path].encoding
        for path, physical_type in leaves
        if physical_type in TYPES_OF_ENCODINGS.get(columns[path].encoding, ())
        and not f"{path}.".startswith(categories)
    } | overrides.pop("column_encoding", {})
    # PyArrow accepts no column with both a dictionary and another encoding.
    dictionaries = overrides.pop("use_dictionary", None)
    if dictionaries is None:
        dictionaries = [
            path for path, column in columns.items() if column.dictionary and path not in encodings
        ]
    elif dictionaries is True:
        dictionaries = [path for path in columns if path not in encodings]
    elif dictionaries:
        encodings = {path: name for path, name in encodings.items() if path not in dictionaries}
    options: dict[str, Any] = {
        "compression": primary.compression,
        # The primary's level is for its own codec.
        "compression_level": None if "compression" in overrides else primary.compression_level,
        "use_dictionary": dictionaries,
        "column_encoding": encodings or None,
        "write_statistics": [path for path, column in columns.items() if column.statistics],
        "data_page_size": primary.page_bytes,
        "dictionary_pagesize_limit": overrides.get("data_page_size", primary.page_bytes),
        "write_page_index": primary.page_index,
    }
    overrides.pop(_ROW_GROUP_SIZE, None)
    return options | overrides


def row_group_rows(parameters: MarginParameters) -> int:
    """Return the most rows of a row group of a margin's files."""
    rows = parameters.write_table_kwargs.get(_ROW_GROUP_SIZE)
    return parameters.primary_options.row_group_rows if rows is None else int(rows)


def check_write_options(parameters: MarginParameters, schema: pa.Schema) -> None:
    """Check ``write_table_kwargs``, by writing a file without rows."""
    options = parameters.write_table_kwargs
    if not options:
        return
    for key in options:
        if key not in _ALLOWED:
            raise MarginCacheError(
                f"write_table_kwargs: {key} is not allowed. Allowed are "
                f"{', '.join(sorted(_ALLOWED))}."
            )
    # Of these values PyArrow has no clear error: row groups of 0 rows never end.
    for key in _SIZES:
        size = options.get(key, 1)
        if type(size) is not int or not 1 <= size < 1 << 31:
            raise MarginCacheError(
                f"write_table_kwargs: {key} is {size}. Give a whole number from 1 to 2147483647."
            )
    try:
        with pq.ParquetWriter(BytesIO(), schema, **writer_options(parameters, schema)) as writer:
            writer.write_table(schema.empty_table(), row_group_size=row_group_rows(parameters))
    except _REFUSALS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MarginCacheError(
            f"write_table_kwargs: PyArrow refuses the options: {reason}"
        ) from None
