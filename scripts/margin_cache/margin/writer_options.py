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

    They are those of the primary's files, overridden by ``write_table_kwargs``. Columns that the
    primary's files do not have, or have with another type, get PyArrow's defaults.
    """
    primary = parameters.primary_options
    leaves = leaf_columns(schema)
    paths = [path for path, _ in leaves]
    columns = {path: primary.columns.get(path, ColumnOptions()) for path in paths}
    encodings = {path: column.encoding for path, column in columns.items() if column.encoding}
    # PyArrow writes dictionaries with any encoding, but cannot read all of that.
    dictionaries = [f"{field.name}." for field in schema if _has_dictionaries(field.type)]
    for path, physical_type in leaves:
        # A name with a dot can be the path of two columns, of different types.
        if physical_type not in TYPES_OF_ENCODINGS.get(encodings.get(path, ""), ()) or any(
            f"{path}.".startswith(name) for name in dictionaries
        ):
            encodings.pop(path, None)
    options: dict[str, Any] = {
        "compression": primary.compression,
        "compression_level": primary.compression_level,
        "use_dictionary": [path for path, column in columns.items() if column.dictionary],
        "column_encoding": encodings or None,
        "write_statistics": [path for path, column in columns.items() if column.statistics],
        "data_page_size": primary.page_bytes,
        "dictionary_pagesize_limit": primary.page_bytes,
        "write_page_index": primary.page_index,
    }
    return _overridden(options, parameters.write_table_kwargs, paths)


def row_group_rows(parameters: MarginParameters) -> int:
    """Return the most rows of a row group of a margin's files."""
    rows = parameters.write_table_kwargs.get(_ROW_GROUP_SIZE)
    return parameters.primary_options.row_group_rows if rows is None else int(rows)


def _overridden(
    options: dict[str, Any], overrides: dict[str, Any], paths: list[str]
) -> dict[str, Any]:
    """Return options overridden by ``write_table_kwargs``, in the way of hats.

    PyArrow accepts no column with both a dictionary and another encoding.
    """
    changed = {key: value for key, value in overrides.items() if key != _ROW_GROUP_SIZE}
    dictionaries = changed.pop("use_dictionary", options["use_dictionary"])
    encodings = dict(options["column_encoding"] or {}) | changed.pop("column_encoding", {})
    if dictionaries is True:
        dictionaries = [path for path in paths if path not in encodings]
    elif dictionaries and "use_dictionary" in overrides:
        encodings = {path: name for path, name in encodings.items() if path not in dictionaries}
    elif dictionaries:
        dictionaries = [path for path in dictionaries if path not in encodings]
    if "compression" in changed:
        # The primary's level is for another codec.
        changed.setdefault("compression_level", None)
    if "data_page_size" in changed:
        changed.setdefault("dictionary_pagesize_limit", changed["data_page_size"])
    return {
        **options,
        **changed,
        "use_dictionary": dictionaries,
        "column_encoding": encodings or None,
    }


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
    _check_types(options)
    paths = [path for path, _ in leaf_columns(schema)]
    nested = [path for path in paths if path not in schema.names]
    advice = f"Give nested columns in full, like {nested[0]}." if nested else "Correct the name."
    for key in ("use_dictionary", "column_encoding", "write_statistics", "compression"):
        columns = options.get(key)
        for name in columns if isinstance(columns, list | dict) else []:
            if name not in paths:
                raise MarginCacheError(
                    f"write_table_kwargs: {key} names the column {name}, which does not exist. "
                    f"{advice}"
                )
    try:
        with pq.ParquetWriter(BytesIO(), schema, **writer_options(parameters, schema)) as writer:
            writer.write_table(schema.empty_table(), row_group_size=row_group_rows(parameters))
    except _REFUSALS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MarginCacheError(
            f"write_table_kwargs: PyArrow refuses the options: {reason}"
        ) from None


def _check_types(options: dict[str, Any]) -> None:
    """Check values for which PyArrow has no clear error: row groups of 0 rows never end."""
    for key in _SIZES:
        size = options.get(key, 1)
        if type(size) is not int or not 1 <= size < 1 << 31:
            raise MarginCacheError(
                f"write_table_kwargs: {key} is {size}. Give a whole number from 1 to 2147483647."
            )
    for key, kinds, expected in (
        ("use_dictionary", bool | list, "true, false or a list of columns"),
        ("column_encoding", dict, "a mapping of columns to encodings"),
    ):
        if key in options and not isinstance(options[key], kinds):
            raise MarginCacheError(f"write_table_kwargs: {key} is {options[key]}. Give {expected}.")


def _has_dictionaries(arrow_type: pa.DataType) -> bool:
    return not without_dictionaries(arrow_type).equals(arrow_type)
