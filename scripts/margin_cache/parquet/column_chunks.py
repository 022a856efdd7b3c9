"""The columns of a row group whose pages can be looked into: where they are and what they hold."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_NUMBERS: dict[pa.DataType, tuple[str, type[np.number]]] = {
    pa.int32(): ("INT32", np.int32),
    pa.uint32(): ("INT32", np.uint32),
    pa.int64(): ("INT64", np.int64),
    pa.uint64(): ("INT64", np.uint64),
    pa.float32(): ("FLOAT", np.float32),
    pa.float64(): ("DOUBLE", np.float64),
}
"""Arrow types whose values are in the file as they do in memory, with their physical type."""

_CODECS = {"UNCOMPRESSED": None, "SNAPPY": pa.Codec("snappy"), "ZSTD": pa.Codec("zstd")}

DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
ENCODINGS = {"PLAIN", "RLE", *DICTIONARIES}
"""Encodings of such columns; RLE is that of the levels."""


@dataclass(frozen=True)
class Chunk:
    """A column of a row group in its file.

    Attributes:
        start: offset of its first page.
        size: bytes of all its pages.
        count: number of its values.
        dtype: type of its values.
        codec: what its pages are compressed with, or None.
        has_levels: whether its pages begin with definition levels.
    """

    start: int
    size: int
    count: int
    dtype: type[np.number]
    codec: pa.Codec | None
    has_levels: bool


def find_chunk(
    metadata: pq.ColumnChunkMetaData, column: pq.ColumnSchema, arrow_type: pa.DataType
) -> Chunk | None:
    """Return a column of a row group, or None if its pages are not looked into.

    Args:
        metadata: the footer's entry for it.
        column: what the file's schema says of it.
        arrow_type: its type in Arrow.
    """
    if arrow_type not in _NUMBERS:
        return None
    physical, dtype = _NUMBERS[arrow_type]
    if metadata.physical_type != physical or metadata.compression not in _CODECS:
        return None
    if column.max_repetition_level or column.max_definition_level > 1 or metadata.file_path:
        return None
    if not ENCODINGS.issuperset(metadata.encodings):
        return None
    start, dictionary = metadata.data_page_offset, metadata.dictionary_page_offset
    return Chunk(
        start=min(start, dictionary) if dictionary and dictionary > 0 else start,
        size=metadata.total_compressed_size,
        count=metadata.num_values,
        dtype=dtype,
        codec=_CODECS[metadata.compression],
        has_levels=column.max_definition_level == 1,
    )
