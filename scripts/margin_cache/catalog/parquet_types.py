"""What Parquet says of a column and Arrow does not: what margins keep of it, or are refused for."""

import re
from pathlib import Path

import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError

_NOT_WRITTEN = ("INTERVAL", "ENUM", "BSON")
"""Types that PyArrow reads as bytes, and does not write."""

_TIME = re.compile(r"Time\(isAdjustedToUTC=(true|false)")


def check_types(columns: pq.ParquetSchema, path: Path) -> None:
    """Check that a margin's files can have the Parquet types of a partition.

    Raises:
        MarginCacheError: PyArrow does not write one.
    """
    for column in map(columns.column, range(len(columns))):
        if column.converted_type in _NOT_WRITTEN:
            raise MarginCacheError(
                f"{path}: the column {column.path} has the Parquet type {column.converted_type}, "
                "which PyArrow does not write; write the catalog again with another type"
            )


def has_utc_times(columns: pq.ParquetSchema, path: Path) -> bool:
    """Tell whether times of day are declared to be in UTC, as PyArrow has done for long.

    Raises:
        MarginCacheError: some are, and some are not, which PyArrow does not write.
    """
    names: dict[str, str] = {}
    for column in map(columns.column, range(len(columns))):
        if found := _TIME.match(str(column.logical_type)):
            names.setdefault(found[1], column.path)
    if len(names) > 1:
        raise MarginCacheError(
            f"{path}: the column {names['true']} has times of day in UTC, and {names['false']} "
            "others, which PyArrow does not write into one file; write the catalog again with one "
            "of both kinds"
        )
    return "true" in names


def int96_columns(file: pq.ParquetFile) -> list[str]:
    """Return the names of the columns of a file that have timestamps of the deprecated INT96."""
    columns = map(file.schema.column, range(len(file.schema)))
    paths = [column.path for column in columns if column.physical_type == "INT96"]
    # The path of a column inside others begins with their names, and names may have dots.
    return [
        name
        for name in (file.schema_arrow.names if paths else ())
        if any(f"{path}.".startswith(f"{name}.") for path in paths)
    ]
