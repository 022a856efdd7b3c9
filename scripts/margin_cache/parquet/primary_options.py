"""How the files of a primary catalog are written, as far as footers tell, for its margin's files.

What they do not tell is the level of compression and the size of pages. The files that hats writes
are recognized by the encodings that it chooses, and for them hats' own values are taken; for all
others PyArrow's defaults, with which most other catalogs are written.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.parquet_types import check_types, has_utc_times
from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.storage.local_listing import fetch_ranges
from margin_cache.storage.parquet_files import (
    MAX_HEADER_BYTES,
    PageHeader,
    open_parquet,
    read_page_header,
)

PYARROW_GROUP_ROWS = 1 << 20
"""Most rows of a row group that PyArrow writes by default."""

HATS_GROUP_ROWS, HATS_LEVEL, HATS_PAGE_BYTES = 100_000, 15, 128 << 10
"""Most rows of a row group, zstd's level, and the size of pages that hats 0.11 writes by default.

Source: ``get_parquet_write_table_kwargs`` in hats.io.file_io
"""

ROWS_WANTED, MOST_FILES = 100_000, 16
"""How many rows' footers are read, so that one odd partition does not decide, and most files."""

_LZ4_OF_HADOOP = "UNKNOWN"
"""PyArrow's name of it: of the codecs that it reads, the only one that it does not write."""

_WIDTHS = {"FLOAT": 4, "DOUBLE": 8}
"""Bytes of a floating-point value."""

_INT = ("INT32", "INT64")
_BYTES = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")

TYPES_OF_ENCODINGS = {
    "BYTE_STREAM_SPLIT": ("FLOAT", "DOUBLE", "FIXED_LEN_BYTE_ARRAY", *_INT),
    "DELTA_BINARY_PACKED": _INT,
    "DELTA_LENGTH_BYTE_ARRAY": ("BYTE_ARRAY",),
    "DELTA_BYTE_ARRAY": _BYTES,
}
"""Encodings that PyArrow's writer can be told to use, beside the plain one and dictionaries, and
the physical types that each is for."""


@dataclass(frozen=True)
class ColumnOptions:
    """How a column is written; of nested columns, each column inside.

    Attributes:
        dictionary: whether it has dictionaries.
        encoding: its encoding, if it has none; empty for the writer's own choice.
        statistics: whether it has statistics.
    """

    dictionary: bool = True
    encoding: str = ""
    statistics: bool = True


@dataclass(frozen=True)
class PrimaryOptions:
    """How the files of a primary catalog are written. The defaults are PyArrow's.

    Attributes:
        compression: codec, by PyArrow's name of it.
        compression_level: its level; None for PyArrow's default.
        row_group_rows: most rows of a row group.
        page_bytes: size of data pages and of dictionaries; None for PyArrow's default.
        data_page_version: 1.0 or 2.0.
        page_index: whether there is an index of pages.
        page_checksums: whether pages have checksums.
        utc_times: whether times of day are declared to be in UTC.
        columns: options of columns by their paths, as PyArrow writes them.
        sorting_columns: path, whether descending, and whether nulls are first, of the columns that
            rows are said to be sorted by, the spatial index first.
    """

    compression: str = "snappy"
    compression_level: int | None = None
    row_group_rows: int = PYARROW_GROUP_ROWS
    page_bytes: int | None = None
    data_page_version: str = "1.0"
    page_index: bool = False
    page_checksums: bool = False
    utc_times: bool = False
    columns: dict[str, ColumnOptions] = field(default_factory=dict)
    sorting_columns: list[list[Any]] = field(default_factory=list)


def options_from_json(values: Mapping[str, Any]) -> PrimaryOptions:
    """Return options of which JSON has made mappings."""
    columns = {path: ColumnOptions(**column) for path, column in values["columns"].items()}
    return PrimaryOptions(**{**values, "columns": columns})


def read_primary_options(info: CatalogInfo, partitions: Partitions) -> PrimaryOptions:
    """Return how the files of a catalog are written, from its first files that have any rows.

    Raises:
        MarginCacheError: one of them cannot be read, or has what PyArrow does not write.
    """
    files = list(_first_files(info, partitions))
    if not files:
        return PrimaryOptions()
    path, first = files[0]
    footers = [file.metadata for _, file in files]
    chunks = _chunks_by_path(files)
    is_indexed = any(chunk.has_offset_index for chunk in _chunks_of(first))
    codec = Counter(chunk.compression for chunk in _chunks_of(first)).most_common(1)[0][0]
    columns = {name: _column_options(found) for name, found in chunks.items()}
    is_from_hats = (
        codec == "ZSTD"
        and is_indexed
        and any(column.encoding == "BYTE_STREAM_SPLIT" for column in columns.values())
    )
    page = _first_page(path, first)
    return PrimaryOptions(
        compression=_codec_like(codec, path),
        compression_level=HATS_LEVEL if is_from_hats else None,
        row_group_rows=_group_rows(
            footers, HATS_GROUP_ROWS if is_from_hats else PYARROW_GROUP_ROWS
        ),
        page_bytes=HATS_PAGE_BYTES if is_from_hats else None,
        data_page_version="2.0" if page.is_second_version else "1.0",
        page_index=is_indexed,
        page_checksums=page.has_checksum,
        utc_times=has_utc_times(first.schema, path),
        columns=columns,
        sorting_columns=_sorting_columns(info, partitions, first, list(chunks)),
    )


def _first_page(path: Path, file: pq.ParquetFile) -> PageHeader:
    chunk = file.metadata.row_group(0).column(0)
    start = chunk.data_page_offset
    fetch_ranges(path, [(start, start + min(MAX_HEADER_BYTES, chunk.total_compressed_size))])
    return read_page_header(path, start)


def leaf_columns(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return path and physical type of each column that Parquet has for a schema.

    Those inside others have paths of their own, with names that the writer of a file chooses; these
    are PyArrow's.
    """
    file = BytesIO()
    pq.write_metadata(schema, file)
    return [(column.path, column.physical_type) for column in pq.read_metadata(file).schema]


def _first_files(
    info: CatalogInfo, partitions: Partitions
) -> Iterator[tuple[Path, pq.ParquetFile]]:
    """Yield the first files that have rows, until they have enough; check the types of all."""
    rows = count = 0
    for pixel, _ in partitions:
        for path in partition_files(info, pixel):
            file = open_parquet(path)
            check_types(file.schema, path)
            if not file.metadata.num_rows:
                continue
            yield path, file
            rows, count = rows + file.metadata.num_rows, count + 1
            if rows >= ROWS_WANTED or count == MOST_FILES:
                return


def _chunks_by_path(
    files: list[tuple[Path, pq.ParquetFile]],
) -> dict[str, list[pq.ColumnChunkMetaData]]:
    """Return the column chunks of files, by paths as PyArrow writes them."""
    chunks: dict[str, list[pq.ColumnChunkMetaData]] = defaultdict(list)
    for _, file in files:
        paths = [path for path, _ in leaf_columns(file.schema_arrow)]
        if len(paths) == file.metadata.num_columns:
            for path, chunk in zip(cycle(paths), _chunks_of(file), strict=False):
                chunks[path].append(chunk)
    return chunks


def _chunks_of(file: pq.ParquetFile) -> Iterator[pq.ColumnChunkMetaData]:
    """Yield the column chunks of a file, row group by row group."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        yield from map(group.column, range(group.num_columns))


def _column_options(chunks: list[pq.ColumnChunkMetaData]) -> ColumnOptions:
    """Return how a column is written, from its chunks."""
    encodings = Counter(encoding for chunk in chunks for encoding in chunk.encodings)
    dictionary = any(chunk.has_dictionary_page for chunk in chunks) and _is_useful(chunks)
    encoding = next((each for each in TYPES_OF_ENCODINGS if each in encodings), "")
    return ColumnOptions(
        dictionary=dictionary,
        encoding="" if dictionary else encoding,
        statistics=any(chunk.is_stats_set for chunk in chunks),
    )


def _is_useful(chunks: list[pq.ColumnChunkMetaData]) -> bool:
    """Tell whether the dictionaries of a column make it smaller.

    Asked of floating-point values only, which hardly repeat: PyArrow's default makes dictionaries
    of them too, and for the few rows of a margin they take a third of the time of writing.
    """
    width = _WIDTHS.get(chunks[0].physical_type)
    if width is None:
        return True
    values = sum(
        chunk.num_values - (chunk.statistics.null_count or 0 if chunk.is_stats_set else 0)
        for chunk in chunks
    )
    return sum(chunk.total_uncompressed_size for chunk in chunks) < values * width


def _group_rows(footers: list[pq.FileMetaData], default: int) -> int:
    """Return the most rows that row groups are written with.

    Where row groups are of different sizes, it is a power of two, which is the same tomorrow.
    """
    sizes = [
        [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        for footer in footers
        if footer.num_row_groups > 1
    ]
    if not sizes:
        return default
    largest = max(map(max, sizes))
    is_even = all(set(groups[:-1]) == {largest} for groups in sizes)
    return largest if is_even else 1 << (largest - 1).bit_length()


def _sorting_columns(
    info: CatalogInfo, partitions: Partitions, file: pq.ParquetFile, paths: list[str]
) -> list[list[Any]]:
    """Return the columns that rows are said to be sorted by, as far as it is true of a margin too.

    Rows of a margin are sorted by the spatial index. Those of equal index stay in the order of
    their file, if all of them are from one file: not if partitions are directories, nor if there
    are several in a pixel of the index.
    """
    declared = [
        [paths[column.column_index], column.descending, column.nulls_first]
        for column in file.metadata.row_group(0).sorting_columns
        if column.column_index < len(paths)
    ]
    if not declared or declared[0][:2] != [info.index_column, False]:
        return []
    is_of_one_file = info.npix_suffix != "/" and partitions.orders.max() <= info.index_order
    return declared if is_of_one_file else declared[:1]


def _codec_like(compression: str, file: Path) -> str:
    """Return the codec that margins of a primary are written with, by PyArrow's name of its own.

    Raises:
        MarginCacheError: PyArrow does not read it.
    """
    if compression == "UNCOMPRESSED":
        return "none"
    if compression == _LZ4_OF_HADOOP:
        print(
            f"{file}: is compressed with the LZ4 of Hadoop, which nothing shall write any more; "
            "the margin gets LZ4_RAW, which has taken its place",
            file=sys.stderr,
        )
        return "lz4"
    codec = compression.lower()
    if codec == "lzo" or not pa.Codec.is_available(codec):
        raise MarginCacheError(
            f"{file}: is compressed with {compression}, which PyArrow does not read; write the "
            "catalog again with another codec"
        )
    return codec
