"""How the files of a primary catalog are written, by their footers; margins are written alike.

Footers do not tell the compression level and the page size. Files by hats are recognized by their
encodings, and get the values of hats; all others get PyArrow's defaults.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog.columns import without_dictionaries
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.parquet.footers import column_chunks, row_groups

PYARROW_GROUP_ROWS = 1 << 20  # PyArrow's default of the most rows of a row group

# Of hats 0.11, from ``get_parquet_write_table_kwargs`` in hats.io.file_io.
HATS_GROUP_ROWS, HATS_LEVEL, HATS_PAGE_BYTES = 100_000, 15, 128 << 10

# Size of a sample of files, because one unusual partition must not decide.
ROWS_WANTED, MOST_FILES = 100_000, 16

_CODECS = {"UNCOMPRESSED": "none", "UNKNOWN": "lz4"}
"""Codecs that PyArrow's writer calls otherwise. "UNKNOWN" is the deprecated LZ4 of Hadoop, which
PyArrow does not write: LZ4_RAW is its successor."""

_FLOAT_BYTES = {"FLOAT": 4, "DOUBLE": 8}

TYPES_OF_ENCODINGS = {
    "BYTE_STREAM_SPLIT": ("FLOAT", "DOUBLE", "FIXED_LEN_BYTE_ARRAY", "INT32", "INT64"),
    "DELTA_BINARY_PACKED": ("INT32", "INT64"),
    "DELTA_LENGTH_BYTE_ARRAY": ("BYTE_ARRAY",),
    "DELTA_BYTE_ARRAY": ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"),
}
"""Encodings that PyArrow writes, except plain and dictionaries, and the types that each is for."""

_ALLOWED = (
    *("row_group_size", "data_page_size", "dictionary_pagesize_limit", "max_rows_per_page"),
    *("write_batch_size", "column_encoding", "compression", "compression_level"),
    *("data_page_version", "use_byte_stream_split", "use_content_defined_chunking"),
    *("use_dictionary", "write_page_checksum", "write_page_index", "write_statistics"),
)
"""Options in ``write_table_kwargs``: those that change no column's type or values."""


@dataclass(frozen=True)
class ColumnOptions:
    """How a leaf column is written. An ``encoding`` "" is the writer's choice."""

    dictionary: bool = True
    encoding: str = ""
    statistics: bool = True


@dataclass(frozen=True)
class PrimaryOptions:
    """How the files of a primary catalog are written. None and the defaults are PyArrow's."""

    compression: str = "snappy"
    compression_level: int | None = None
    row_group_rows: int = PYARROW_GROUP_ROWS
    page_bytes: int | None = None  # of data pages and of dictionaries
    page_index: bool = False
    columns: dict[str, ColumnOptions] = field(default_factory=dict)  # by the paths of leaf columns


def options_from_json(values: Mapping[str, Any]) -> PrimaryOptions:
    columns = {path: ColumnOptions(**column) for path, column in values["columns"].items()}
    return PrimaryOptions(**{**values, "columns": columns})


def read_primary_options(info: CatalogInfo, partitions: Partitions) -> PrimaryOptions:
    files = list(_first_files(info, partitions))
    if not files:
        return PrimaryOptions()
    first_chunks = list(column_chunks(files[0].metadata))
    codec = Counter(chunk.compression for chunk in first_chunks).most_common(1)[0][0]
    is_indexed = any(chunk.has_offset_index for chunk in first_chunks)
    columns = {path: _column_options(chunks) for path, chunks in _chunks_by_path(files).items()}
    is_from_hats = (
        codec == "ZSTD"
        and is_indexed
        and any(column.encoding == "BYTE_STREAM_SPLIT" for column in columns.values())
    )
    return PrimaryOptions(
        compression=_CODECS.get(codec, codec.lower()),
        compression_level=HATS_LEVEL if is_from_hats else None,
        row_group_rows=_group_rows(files, HATS_GROUP_ROWS if is_from_hats else PYARROW_GROUP_ROWS),
        page_bytes=HATS_PAGE_BYTES if is_from_hats else None,
        page_index=is_indexed,
        columns=columns,
    )


def leaf_columns(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return path, as PyArrow names it, and physical type of each leaf column."""
    file = BytesIO()
    pq.write_metadata(schema, file)
    return [(column.path, column.physical_type) for column in pq.read_metadata(file).schema]


def _first_files(info: CatalogInfo, partitions: Partitions) -> Iterator[pq.ParquetFile]:
    rows = count = 0
    for pixel, _ in partitions:
        for file in map(info.files.open_parquet, partition_files(info, pixel)):
            if not file.metadata.num_rows:
                continue
            yield file
            rows, count = rows + file.metadata.num_rows, count + 1
            if rows >= ROWS_WANTED or count == MOST_FILES:
                return


def _chunks_by_path(files: list[pq.ParquetFile]) -> dict[str, list[pq.ColumnChunkMetaData]]:
    """Return the column chunks of files by path, as PyArrow writes it."""
    chunks: dict[str, list[pq.ColumnChunkMetaData]] = defaultdict(list)
    for file in files:
        paths = [path for path, _ in leaf_columns(file.schema_arrow)]
        if len(paths) == file.metadata.num_columns:
            for path, chunk in zip(cycle(paths), column_chunks(file.metadata), strict=False):
                chunks[path].append(chunk)
    return chunks


def _column_options(chunks: list[pq.ColumnChunkMetaData]) -> ColumnOptions:
    statistics = any(chunk.is_stats_set for chunk in chunks)
    if any(chunk.has_dictionary_page for chunk in chunks) and _is_dictionary_useful(chunks):
        return ColumnOptions(statistics=statistics)
    encodings = {encoding for chunk in chunks for encoding in chunk.encodings}
    encoding = next((name for name in TYPES_OF_ENCODINGS if name in encodings), "")
    return ColumnOptions(dictionary=False, encoding=encoding, statistics=statistics)


def _is_dictionary_useful(chunks: list[pq.ColumnChunkMetaData]) -> bool:
    """Return False for floats that dictionaries make larger: these are slow to write."""
    width = _FLOAT_BYTES.get(chunks[0].physical_type)
    if width is None:
        return True
    values = sum(
        chunk.num_values - (chunk.statistics.null_count or 0 if chunk.is_stats_set else 0)
        for chunk in chunks
    )
    return sum(chunk.total_uncompressed_size for chunk in chunks) < values * width


def _group_rows(files: list[pq.ParquetFile], default: int) -> int:
    """Return the most rows of a row group, rounded up to a power of two if they differ."""
    sizes = [
        [group.num_rows for group in row_groups(file.metadata)]
        for file in files
        if file.num_row_groups > 1
    ]
    if not sizes:
        return default
    largest = max(map(max, sizes))
    is_even = all(set(groups[:-1]) == {largest} for groups in sizes)
    return largest if is_even else 1 << (largest - 1).bit_length()


def writer_options(
    primary: PrimaryOptions, write_table_kwargs: Mapping[str, Any], schema: pa.Schema
) -> dict[str, Any]:
    """Return PyArrow's options: those of the primary, overridden as hats does.

    Columns that the primary's files do not have, or have with another type, get PyArrow's defaults.
    """
    overrides = dict(write_table_kwargs)
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
    overrides.pop("row_group_size", None)
    return options | overrides


def row_group_rows(primary: PrimaryOptions, write_table_kwargs: Mapping[str, Any]) -> int:
    return int(write_table_kwargs.get("row_group_size", primary.row_group_rows))


def check_write_options(
    primary: PrimaryOptions, write_table_kwargs: Mapping[str, Any], schema: pa.Schema
) -> None:
    """Check ``write_table_kwargs``, by writing a file without rows."""
    if not write_table_kwargs:
        return
    for key in write_table_kwargs:
        if key not in _ALLOWED:
            raise MarginCacheError(
                f"write_table_kwargs: {key} is not allowed. Allowed are "
                f"{', '.join(sorted(_ALLOWED))}."
            )
    # With 0, PyArrow would never end.
    for key in ("row_group_size", "write_batch_size"):
        size = write_table_kwargs.get(key, 1)
        if type(size) is not int or not 1 <= size < 1 << 31:
            raise MarginCacheError(
                f"write_table_kwargs: {key} is {size}. Give a whole number from 1 to 2147483647."
            )
    try:
        options = writer_options(primary, write_table_kwargs, schema)
        with pq.ParquetWriter(BytesIO(), schema, **options) as writer:
            writer.write_table(pa.Table.from_batches([], schema))
    except Exception as error:  # PyArrow raises errors of many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MarginCacheError(
            f"write_table_kwargs: PyArrow refuses the options: {reason}"
        ) from None
