"""Finds out from footers how a primary catalog is written; its margins are written alike.

Footers do not contain the compression level and the page size. Files by hats are recognized by
their encodings, and get the values of hats; all others get PyArrow's defaults, with which most
other catalogs are written.
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
from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.parquet.footers import (
    check_types,
    column_chunks,
    has_utc_times,
    row_groups,
)
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
"""Defaults of hats 0.11: most rows of a row group, compression level of zstd, page size.

Source: ``get_parquet_write_table_kwargs`` in hats.io.file_io
"""

ROWS_WANTED, MOST_FILES = 100_000, 16
"""Files are sampled until they have this many rows, or are this many: one unusual partition must
not decide."""

_LZ4_OF_HADOOP = "UNKNOWN"
"""PyArrow's name of this codec, the only one that it reads and does not write."""

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
"""Encodings that PyArrow's writer can use, except plain and dictionaries, with the physical types
that each is for."""


@dataclass(frozen=True)
class ColumnOptions:
    """How a leaf column is written.

    ``encoding`` is for columns without dictionaries, and "" for the writer's choice.
    """

    dictionary: bool = True
    encoding: str = ""
    statistics: bool = True


@dataclass(frozen=True)
class PrimaryOptions:
    """How the files of a primary catalog are written. The defaults are PyArrow's.

    Attributes:
        compression: codec, by PyArrow's name.
        compression_level: None for PyArrow's default.
        row_group_rows: most rows of a row group.
        page_bytes: size of data pages and of dictionaries; None for PyArrow's default.
        utc_times: whether times of day are declared to be in UTC.
        columns: options of leaf columns by path, as PyArrow writes it.
        sorting_columns: columns that the rows are declared to be sorted by, the spatial index
            first: path, whether descending, whether nulls come first.
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
    """Return options that were saved as JSON."""
    columns = {path: ColumnOptions(**column) for path, column in values["columns"].items()}
    return PrimaryOptions(**{**values, "columns": columns})


def read_primary_options(info: CatalogInfo, partitions: Partitions) -> PrimaryOptions:
    """Return how the first files of a catalog with rows are written."""
    files = list(_first_files(info, partitions))
    if not files:
        return PrimaryOptions()
    first_path, first = files[0]
    footers = [file.metadata for _, file in files]
    chunks = _chunks_by_path(files)
    is_indexed = any(chunk.has_offset_index for chunk in column_chunks(first.metadata))
    codecs = Counter(chunk.compression for chunk in column_chunks(first.metadata))
    codec = codecs.most_common(1)[0][0]
    columns = {path: _column_options(of_column) for path, of_column in chunks.items()}
    is_from_hats = (
        codec == "ZSTD"
        and is_indexed
        and any(column.encoding == "BYTE_STREAM_SPLIT" for column in columns.values())
    )
    page = _first_page(first_path, first)
    return PrimaryOptions(
        compression=_margin_codec(codec, first_path),
        compression_level=HATS_LEVEL if is_from_hats else None,
        row_group_rows=_group_rows(
            footers, HATS_GROUP_ROWS if is_from_hats else PYARROW_GROUP_ROWS
        ),
        page_bytes=HATS_PAGE_BYTES if is_from_hats else None,
        data_page_version="2.0" if page.is_second_version else "1.0",
        page_index=is_indexed,
        page_checksums=page.has_checksum,
        utc_times=has_utc_times(first.schema, first_path),
        columns=columns,
        sorting_columns=_sorting_columns(info, partitions, first, list(chunks)),
    )


def _first_page(path: Path, file: pq.ParquetFile) -> PageHeader:
    chunk = file.metadata.row_group(0).column(0)
    start = chunk.data_page_offset
    fetch_ranges(path, [(start, start + min(MAX_HEADER_BYTES, chunk.total_compressed_size))])
    return read_page_header(path, start)


def leaf_columns(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return path and physical type of each leaf column of a schema.

    Writers of files name nested columns differently; these paths are PyArrow's.
    """
    file = BytesIO()
    pq.write_metadata(schema, file)
    return [(column.path, column.physical_type) for column in pq.read_metadata(file).schema]


def _first_files(
    info: CatalogInfo, partitions: Partitions
) -> Iterator[tuple[Path, pq.ParquetFile]]:
    """Yield files that have rows until the sample is large enough; check the types of all."""
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
    """Return the column chunks of files by path, as PyArrow writes it."""
    chunks: dict[str, list[pq.ColumnChunkMetaData]] = defaultdict(list)
    for _, file in files:
        paths = [path for path, _ in leaf_columns(file.schema_arrow)]
        if len(paths) == file.metadata.num_columns:
            for path, chunk in zip(cycle(paths), column_chunks(file.metadata), strict=False):
                chunks[path].append(chunk)
    return chunks


def _column_options(chunks: list[pq.ColumnChunkMetaData]) -> ColumnOptions:
    encodings = Counter(encoding for chunk in chunks for encoding in chunk.encodings)
    dictionary = any(chunk.has_dictionary_page for chunk in chunks) and _is_dictionary_useful(
        chunks
    )
    encoding = next((name for name in TYPES_OF_ENCODINGS if name in encodings), "")
    return ColumnOptions(
        dictionary=dictionary,
        encoding="" if dictionary else encoding,
        statistics=any(chunk.is_stats_set for chunk in chunks),
    )


def _is_dictionary_useful(chunks: list[pq.ColumnChunkMetaData]) -> bool:
    """Return whether the dictionaries of a column make it smaller.

    Always true except for floating-point values, which hardly repeat: PyArrow's default makes
    dictionaries of them too, which take a third of the time of writing a margin.
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

    If row groups differ in size, it is rounded up to a power of two, so that a few more rows in the
    catalog do not change it.
    """
    sizes = [
        [group.num_rows for group in row_groups(footer)]
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
    """Return the declared sorting columns that are true of a margin too.

    Rows of a margin are sorted by the spatial index. Rows of equal index keep the order of their
    file, but may be from several files if partitions are directories or finer than the index.
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


def _margin_codec(compression: str, file: Path) -> str:
    """Return the codec of a margin, by the name that PyArrow's writer takes."""
    if compression == "UNCOMPRESSED":
        return "none"
    if compression == _LZ4_OF_HADOOP:
        print(
            f"{file}: is compressed with the deprecated LZ4 of Hadoop. The margin is compressed "
            "with LZ4_RAW, its successor.",
            file=sys.stderr,
        )
        return "lz4"
    codec = compression.lower()
    if codec == "lzo" or not pa.Codec.is_available(codec):
        raise MarginCacheError(
            f"{file}: is compressed with {compression}, which PyArrow does not read. Write the "
            "catalog again with another codec."
        )
    return codec
