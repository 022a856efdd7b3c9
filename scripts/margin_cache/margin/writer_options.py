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

_MAY_BE_GIVEN = (
    _ROW_GROUP_SIZE,
    "column_encoding",
    "compression",
    "compression_level",
    "data_page_size",
    "data_page_version",
    "dictionary_pagesize_limit",
    "max_rows_per_page",
    "use_byte_stream_split",
    "use_content_defined_chunking",
    "use_dictionary",
    "write_batch_size",
    "write_page_checksum",
    "write_page_index",
    "write_statistics",
)
"""Options that ``write_table_kwargs`` takes: those that change no column's type or values."""


_SIZES = (
    _ROW_GROUP_SIZE,
    "data_page_size",
    "dictionary_pagesize_limit",
    "max_rows_per_page",
    "write_batch_size",
)

_REFUSALS = (pa.ArrowException, AttributeError, OSError, OverflowError, TypeError, ValueError)
"""What PyArrow raises at options that it does not take."""


def writer_options(parameters: MarginParameters, schema: pa.Schema) -> dict[str, Any]:
    """Return the options of ``pyarrow.parquet.ParquetWriter`` for the files of a margin.

    They are those of the primary's files, but for what ``write_table_kwargs`` says. Columns that
    the primary's files do not have are written as PyArrow does by default, and so is one that has
    got another type on its way into the margin.

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
    options: dict[str, Any] = {
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
    return _with_given(options, parameters.write_table_kwargs, paths)


def row_group_rows(parameters: MarginParameters) -> int:
    """Return the most rows of a row group of a margin's files."""
    given = parameters.write_table_kwargs.get(_ROW_GROUP_SIZE)
    return parameters.primary_options.row_group_rows if given is None else int(given)


def _with_given(options: dict[str, Any], given: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """Return options of the writer with those that are given in their place, as hats does it.

    PyArrow takes no column that has both a dictionary and an encoding of its own.
    """
    changed = {key: value for key, value in given.items() if key != _ROW_GROUP_SIZE}
    dictionaries = changed.pop("use_dictionary", options["use_dictionary"])
    encodings = dict(options["column_encoding"] or {}) | changed.pop("column_encoding", {})
    if dictionaries is True:
        dictionaries = [path for path in paths if path not in encodings]
    elif dictionaries and "use_dictionary" in given:
        encodings = {path: name for path, name in encodings.items() if path not in dictionaries}
    elif dictionaries:
        dictionaries = [path for path in dictionaries if path not in encodings]
    if "compression" in changed:
        # The level was one for another codec.
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
    """Check ``write_table_kwargs``, by writing a file without rows.

    Args:
        parameters: what shapes the margin.
        schema: the schema of its files.

    Raises:
        MarginCacheError: there is no such option, or PyArrow refuses its value.
    """
    given = parameters.write_table_kwargs
    if not given:
        return
    for key in given:
        if key not in _MAY_BE_GIVEN:
            raise MarginCacheError(
                f"write_table_kwargs: {key} is none of the options that may be given, which are "
                f"{', '.join(_MAY_BE_GIVEN)}; leave it out"
            )
    _check_kinds(given)
    paths = [path for path, _ in leaf_columns(schema)]
    for key in ("use_dictionary", "column_encoding", "write_statistics", "compression"):
        columns = given.get(key)
        for name in columns if isinstance(columns, list | dict) else []:
            if name not in paths:
                raise MarginCacheError(
                    f"write_table_kwargs: {key} names {name}, and there is no such column; nested "
                    f"ones are named in full, as {max(paths, key=len)}"
                )
    try:
        with pq.ParquetWriter(BytesIO(), schema, **writer_options(parameters, schema)) as writer:
            writer.write_table(schema.empty_table(), row_group_size=row_group_rows(parameters))
    except _REFUSALS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MarginCacheError(f"write_table_kwargs: PyArrow refuses that: {reason}") from None


def _check_kinds(given: dict[str, Any]) -> None:
    """Check what PyArrow itself would not refuse in words; a batch of no rows it never ends."""
    for key in _SIZES:
        size = given.get(key, 1)
        if type(size) is not int or not 1 <= size < 1 << 31:
            raise MarginCacheError(
                f"write_table_kwargs: {key} is {size}; give a whole number from 1 to 2147483647"
            )
    for key, kinds, words in (
        ("use_dictionary", bool | list, "true, false or a list of columns"),
        ("column_encoding", dict, "a mapping of columns to encodings"),
    ):
        if key in given and not isinstance(given[key], kinds):
            raise MarginCacheError(f"write_table_kwargs: {key} is {given[key]}; give {words}")


def _has_dictionaries(arrow_type: pa.DataType) -> bool:
    return not without_dictionaries(arrow_type).equals(arrow_type)
