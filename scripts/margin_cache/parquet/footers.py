"""Footers of Parquet files: types, sizes and byte ranges of columns; joining of many footers."""

import re
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.storage.catalog_files import MAGIC, TAIL_BYTES

Range = tuple[int, int]  # the first byte, and the byte after the last

MOST_FOOTER_BYTES = (1 << 31) - 1  # that Parquet readers accept

_WIDTHS = {"INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 16}
"""Least bytes of a value in memory, by physical type."""

_SMALL_GROUP_BYTES = 32 << 10  # of row groups, uncompressed, that are fetched whole from a store

_NO_ROW_GROUPS = b"\x16\x00\x19\x0c"
_HEAD = re.compile(
    rb"\x16([\x80-\xff]*[\x00-\x7f])\x19(?:([\x00-\xef])|\xfc([\x80-\xff]*[\x00-\x7f]))", re.DOTALL
)
"""The number of rows and the size of the list of row groups, in Thrift's compact protocol."""


def row_groups(metadata: pq.FileMetaData) -> list[pq.RowGroupMetaData]:
    return [metadata.row_group(number) for number in range(metadata.num_row_groups)]


def column_chunks(metadata: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    """Yield the column chunks of a file, row group by row group."""
    for group in row_groups(metadata):
        yield from map(group.column, range(group.num_columns))


def int96_columns(file: pq.ParquetFile) -> set[str]:
    """Return the columns that have timestamps of the deprecated type INT96, also inside others."""
    names = file.schema_arrow.names
    return {
        _top_column(column.path, names) for column in file.schema if column.physical_type == "INT96"
    }


@dataclass
class ColumnSize:
    """Size of a column with all columns nested in it."""

    stored: int = 0  # bytes in the largest row group of the file
    row: float = 0.0  # approximate bytes of a row in memory; values in dictionaries count once
    codecs: set[str] = field(default_factory=set)


def column_sizes(file: pq.ParquetFile, names: Iterable[str]) -> dict[str, ColumnSize]:
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
    """Return the one of ``names`` that a leaf column belongs to, or ""; names may have dots."""
    while path and path not in names:
        path = path.rpartition(".")[0]
    return path


def column_ranges(file: pq.ParquetFile, columns: Collection[str]) -> list[Range]:
    """Return the byte ranges of columns; of small row groups, those of all columns together."""
    leaves = [leaf for leaf, column in enumerate(file.schema) if _top_column(column.path, columns)]
    return _joined(
        chunk
        for group in row_groups(file.metadata)
        for chunk in _chunk_ranges(group, range(group.num_columns) if _is_small(group) else leaves)
    )


def row_ranges(file: pq.ParquetFile, rows: NDArray[np.int64], but: Collection[str]) -> list[Range]:
    """Return the ranges of row groups with these rows, without those of `column_ranges`."""
    groups = row_groups(file.metadata)
    ends = np.cumsum([group.num_rows for group in groups])
    leaves = [leaf for leaf, column in enumerate(file.schema) if not _top_column(column.path, but)]
    return [
        joined
        for number in np.unique(np.searchsorted(ends, rows, side="right"))
        if not _is_small(groups[number])
        for joined in _joined(_chunk_ranges(groups[number], leaves))
    ]


def _is_small(group: pq.RowGroupMetaData) -> bool:
    return group.total_byte_size < _SMALL_GROUP_BYTES


def _chunk_ranges(group: pq.RowGroupMetaData, leaves: Iterable[int]) -> Iterator[Range]:
    for chunk in map(group.column, leaves):
        start = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
            start = chunk.dictionary_page_offset
        yield start, start + chunk.total_compressed_size


def _joined(chunks: Iterable[Range]) -> list[Range]:
    """Join ranges that touch."""
    ranges: list[Range] = []
    for start, end in sorted(chunks):
        if ranges and start == ranges[-1][1]:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((start, end))
    return ranges


def join_footers(common: Path, footers: Sequence[Path], target: Path) -> bool:
    """Join files that consist of a footer; ``common`` is one of the same schema without row groups.

    PyArrow would decode all row groups first, which takes 40 kB of memory for each file of 35
    columns. Here their bytes are copied. Return False if footers differ in more than their row
    groups, for example because another version of PyArrow has written one.

    Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
    """
    before, _, after = _footer_of(common).partition(_NO_ROW_GROUPS)
    rows = groups = 0
    starts = []
    for path in footers:
        footer = _footer_of(path)
        head = _HEAD.match(footer, len(before))
        if not (head and footer.startswith(before) and footer.endswith(after)):
            return False
        rows += _decoded(head[1]) >> 1
        groups += head[2][0] >> 4 if head[2] else _decoded(head[3])
        starts.append(head.end())
    with target.open("wb") as file:
        file.write(MAGIC + before + b"\x16" + _encoded(2 * rows) + b"\x19")
        # Sizes below 15 are in the byte of the type.
        file.write(bytes([groups << 4 | 12]) if groups < 15 else b"\xfc" + _encoded(groups))
        for path, start in zip(footers, starts, strict=True):
            file.write(_footer_of(path)[start:].removesuffix(after))
        file.write(after)
        length = file.tell() - len(MAGIC)
        file.write(length.to_bytes(4, "little") + MAGIC)
    return True


def _footer_of(path: Path) -> bytes:
    return path.read_bytes()[len(MAGIC) : -TAIL_BYTES]


def _decoded(number: bytes) -> int:
    """Decode an unsigned integer (ULEB128)."""
    return sum((byte & 127) << 7 * place for place, byte in enumerate(number))


def _encoded(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])
