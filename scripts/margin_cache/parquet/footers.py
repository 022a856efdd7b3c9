"""Footers of Parquet files: types, sizes and byte ranges of columns; joining of many footers."""

import re
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.errors import MarginCacheError
from margin_cache.storage.local_listing import ByteRange as Range
from margin_cache.storage.parquet_files import (
    compact_integer,
    compact_list_head,
    footer_of,
    footer_parts,
)

MOST_FOOTER_BYTES = (1 << 31) - 1
"""The largest footer that Parquet readers accept."""

_NOT_WRITTEN = ("INTERVAL", "ENUM", "BSON")
"""Types that PyArrow reads as bytes, and cannot write."""

_TIME = re.compile(r"Time\(isAdjustedToUTC=(true|false)")

_WIDTHS = {"INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 16}
"""Least bytes of a value in memory, by physical type."""

_MAGIC = b"PAR1"
_ROWS_HEAD, _ROW_GROUPS_HEAD = b"\x16", b"\x19"
"""Heads of the fields with the number of rows and with the row groups."""


def row_groups(metadata: pq.FileMetaData) -> list[pq.RowGroupMetaData]:
    return [metadata.row_group(number) for number in range(metadata.num_row_groups)]


def column_chunks(metadata: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    """Yield the column chunks of a file, row group by row group."""
    for group in row_groups(metadata):
        yield from map(group.column, range(group.num_columns))


# --- types ----------------------------------------------------------------------------------


def check_types(columns: pq.ParquetSchema, path: Path) -> None:
    """Reject Parquet types that Arrow has no types for, and that PyArrow cannot write."""
    for column in columns:
        if column.converted_type in _NOT_WRITTEN:
            raise MarginCacheError(
                f"{path}: the column {column.path} has the Parquet type {column.converted_type}, "
                "which PyArrow does not write. Write the catalog with another type."
            )


def has_utc_times(columns: pq.ParquetSchema, path: Path) -> bool:
    """Return whether times of day are declared to be in UTC, as PyArrow did for a long time.

    Raises:
        MarginCacheError: only some of them are; PyArrow cannot write both kinds into one file.
    """
    names: dict[str, str] = {}
    for column in columns:
        if is_utc := _TIME.match(str(column.logical_type)):
            names.setdefault(is_utc[1], column.path)
    if len(names) > 1:
        raise MarginCacheError(
            f"{path}: the column {names['true']} has times of day in UTC, but {names['false']} has "
            "not, and PyArrow does not write both into one file. Write the catalog with one kind."
        )
    return "true" in names


def int96_columns(file: pq.ParquetFile) -> list[str]:
    """Return the columns that have timestamps of the deprecated type INT96, also inside others."""
    paths = [column.path for column in file.schema if column.physical_type == "INT96"]
    # The path of a nested column begins with the names of its parents, which may have dots.
    return [
        name
        for name in (file.schema_arrow.names if paths else ())
        if any(f"{path}.".startswith(f"{name}.") for path in paths)
    ]


# --- sizes ----------------------------------------------------------------------------------


@dataclass
class ColumnSize:
    """Size of a column with all columns nested in it.

    Attributes:
        stored: its bytes in the largest row group of the file.
        row: approximate bytes of a row in memory; values in dictionaries are not repeated.
        codecs: the codecs that compress it, by PyArrow's names.
    """

    stored: int = 0
    row: float = 0.0
    codecs: set[str] = field(default_factory=set)


def column_sizes(file: pq.ParquetFile, names: Iterable[str]) -> dict[str, ColumnSize]:
    """Return the sizes of columns by name."""
    sizes = {name: ColumnSize() for name in names}
    tops = [_top_column(column.path, sizes) for column in file.schema]
    total = max(file.metadata.num_rows, 1)
    for group in row_groups(file.metadata):
        stored = dict.fromkeys(sizes, 0)
        for leaf, name in enumerate(tops):
            if name:
                chunk = group.column(leaf)
                width = _WIDTHS.get(chunk.physical_type, 1)
                stored[name] += chunk.total_compressed_size
                sizes[name].codecs.add(chunk.compression)
                sizes[name].row += (
                    max(chunk.total_uncompressed_size, chunk.num_values * width) / total
                )
        for name, size in stored.items():
            sizes[name].stored = max(sizes[name].stored, size)
    return sizes


def _top_column(path: str, names: Container[str]) -> str:
    """Return the column among ``names`` that a leaf column belongs to, or "".

    The path of a nested column begins with the names of its parents, which may have dots.
    """
    while path and path not in names:
        path = path.rpartition(".")[0]
    return path


# --- ranges ---------------------------------------------------------------------------------


def row_ranges(file: pq.ParquetFile, rows: NDArray[np.int64]) -> list[Range]:
    """Return the byte ranges of all row groups that hold any of the rows, given by number."""
    return _ranges(file.metadata, groups_of(file.metadata, rows), range(file.metadata.num_columns))


def column_ranges(file: pq.ParquetFile, columns: Collection[str]) -> list[Range]:
    """Return the byte ranges of columns, given by name; names that do not exist are ignored."""
    leaves = [leaf for leaf, column in enumerate(file.schema) if _top_column(column.path, columns)]
    return _ranges(file.metadata, range(file.num_row_groups), leaves)


def groups_of(metadata: pq.FileMetaData, rows: NDArray[np.int64]) -> list[int]:
    """Return the numbers of the row groups that hold any of the rows, given by number."""
    sizes = [group.num_rows for group in row_groups(metadata)]
    return np.unique(np.searchsorted(np.cumsum(sizes), rows, side="right")).tolist()


def _ranges(
    metadata: pq.FileMetaData, groups: Iterable[int], leaves: Collection[int]
) -> list[Range]:
    ranges = []
    for group in groups:
        for leaf in leaves:
            chunk = metadata.row_group(group).column(leaf)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            ranges.append((start, start + chunk.total_compressed_size))
    return ranges


# --- joining --------------------------------------------------------------------------------


def joined_size(footers: Sequence[Path]) -> int:
    """Return the approximate size of the joined footers; it is hardly ever larger."""
    return sum(path.stat().st_size for path in footers)


def join_footers(common: Path, footers: Sequence[Path], target: Path) -> bool:
    """Join files that consist of a footer into one, with all their row groups.

    PyArrow would decode all row groups first, which takes 40 kB of memory for each file of 35
    columns. Here their bytes are copied; all other fields are equal in the footers of a margin.

    Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift

    Args:
        common: a file of the same schema without row groups.
        footers: the files.
        target: the file to write.

    Returns:
        Whether it was written. It is not if a footer differs in more than its row groups, or has
        another layout, for example one by another version of PyArrow.
    """
    try:
        expected = footer_parts(footer_of(common))
        rows = groups = 0
        for path in footers:
            parts = footer_parts(footer_of(path))
            if parts.before != expected.before or not parts.after.endswith(expected.after):
                return False
            rows, groups = rows + parts.rows, groups + parts.groups
    except ValueError:
        return False
    head = expected.before + _ROWS_HEAD + compact_integer(rows)
    head += _ROW_GROUPS_HEAD + compact_list_head(groups)
    with target.open("wb") as file:
        file.write(_MAGIC + head)
        for path in footers:
            file.write(footer_parts(footer_of(path)).after.removesuffix(expected.after))
        file.write(expected.after)
        length = file.tell() - len(_MAGIC)
        file.write(length.to_bytes(4, "little") + _MAGIC)
    return True
