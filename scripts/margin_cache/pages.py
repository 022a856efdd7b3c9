"""Rows of a column, straight from the pages of a Parquet file.

PyArrow decodes all values of a row group, however few of its rows are wanted; in a margin that is
one in a thousand, and the decoding most of the work. Here only pages with wanted rows are
decompressed, and of them only the wanted values decoded. That is done for what catalogs mostly
consist of: columns of numbers, not nested, without nulls, in plain or dictionary-encoded pages of
the first version, as PyArrow writes them. For all others `find_chunk` or `take_values` say so, and
PyArrow reads them.

Source: the Parquet format, https://parquet.apache.org/docs/file-format, whose names are used here.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Values = NDArray[np.number]

_KINDS = {
    pa.int32(): ("INT32", np.int32),
    pa.uint32(): ("INT32", np.uint32),
    pa.int64(): ("INT64", np.int64),
    pa.uint64(): ("INT64", np.uint64),
    pa.float32(): ("FLOAT", np.float32),
    pa.float64(): ("DOUBLE", np.float64),
}
"""Arrow types whose values stand in the file as they do in memory, with their physical type."""

_CODECS = {"UNCOMPRESSED": None, "SNAPPY": pa.Codec("snappy"), "ZSTD": pa.Codec("zstd")}

DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
ENCODINGS = {"PLAIN", "RLE", *DICTIONARIES}
"""Encodings that are taken here; RLE is that of the levels."""

_PLAIN, _DICTIONARIES, _RLE = 0, (2, 8), 3
"""Their numbers in the headers of pages."""

_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE = range(3)

_BOOLEANS, _INTEGERS, _BYTES, _STRUCT = (1, 2), (4, 5, 6), 8, 12
"""Kinds of fields in a header."""

_MOST_BYTES = 1 << 28
"""Pages are a megabyte or so; one that is larger is damaged, or not worth while."""

_DAMAGES = (
    *(LookupError, TypeError, ValueError, OverflowError, MemoryError, RecursionError),
    *(struct.error, pa.ArrowException, OSError),
)
"""What is raised at headers and pages that make no sense, or are not there."""


class NotTaken(Exception):
    """The pages of a column are of another kind than those that are taken here, or damaged."""


@dataclass(frozen=True)
class Chunk:
    """A column of a row group in its file.

    Attributes:
        start: offset of its first page.
        size: bytes of all its pages.
        dtype: type of its values.
        codec: what its pages are compressed with, or None.
        has_levels: whether its pages begin with definition levels.
    """

    start: int
    size: int
    dtype: type[np.number]
    codec: pa.Codec | None
    has_levels: bool


def find_chunk(
    metadata: pq.ColumnChunkMetaData, column: pq.ColumnSchema, kind: pa.DataType
) -> Chunk | None:
    """Return a column of a row group, or None if it is of a kind that is not taken here.

    Args:
        metadata: the footer's entry for it.
        column: what the file's schema says of it.
        kind: its type in Arrow.
    """
    if kind not in _KINDS:
        return None
    physical, dtype = _KINDS[kind]
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
        dtype=dtype,
        codec=_CODECS[metadata.compression],
        has_levels=column.max_definition_level == 1,
    )


def take_values(
    file: pa.NativeFile, chunk: Chunk, rows: NDArray[np.int64], memory: bytearray
) -> Values:
    """Return the values of a column in some rows.

    Args:
        file: the Parquet file, open.
        chunk: the column of a row group.
        rows: indices of rows in the row group, ascending, perhaps repeated, shape (n,).
        memory: what the column is read into, which is made larger if need be.

    Returns:
        Values of shape (n,).

    Raises:
        NotTaken: a page is of a kind that is not taken here, or damaged, or cannot be read.
    """
    try:
        return _take(_read_chunk(file, chunk, memory), chunk, rows)
    except _DAMAGES as error:
        raise NotTaken(str(error)) from None


def _read_chunk(file: pa.NativeFile, chunk: Chunk, memory: bytearray) -> memoryview:
    """Read all pages of a column into memory; return the part of it that they take."""
    if chunk.start < 0 or chunk.size < 0 or chunk.start + chunk.size > file.size():
        raise NotTaken("the file ends within the column")
    if len(memory) < chunk.size:
        memory.extend(bytes(chunk.size - len(memory)))
    data = memoryview(memory)[: chunk.size]
    file.seek(chunk.start)
    done = 0
    while done < chunk.size:
        read = file.readinto(data[done:])
        if not read:
            raise NotTaken("the file ends within the column")
        done += read
    return data


def _take(data: memoryview, chunk: Chunk, rows: NDArray[np.int64]) -> Values:
    values = np.empty(len(rows), chunk.dtype)
    dictionary: Values | None = None
    dictionary_page: _Page | None = None
    position = first = low = 0
    while low < len(rows):
        page = _read_page(data, position)
        position = page.end
        if page.kind == _DICTIONARY_PAGE and dictionary_page is None:
            dictionary_page = page
        elif page.kind == _DATA_PAGE:
            count, encoding = page.header[1], page.header[2]
            high = int(rows.searchsorted(first + count))
            if high > low:
                wanted = rows[low:high] - first
                content = _uncompressed(data, page, chunk.codec)
                start = _end_of_levels(content, page) if chunk.has_levels else 0
                if encoding == _PLAIN:
                    values[low:high] = np.frombuffer(content, chunk.dtype, count, start)[wanted]
                elif encoding in _DICTIONARIES and dictionary_page:
                    codes = _codes(content, start, wanted)
                    if dictionary is None:
                        plain = _uncompressed(data, dictionary_page, chunk.codec)
                        dictionary = np.frombuffer(plain, chunk.dtype, dictionary_page.header[1])
                    values[low:high] = dictionary[codes]
                else:
                    raise NotTaken(f"encoding {encoding}")
            low, first = high, first + count
        elif page.kind != _INDEX_PAGE:
            raise NotTaken(f"page of kind {page.kind}")
    return values


@dataclass(slots=True)
class _Page:
    """A page: its kind, where it lies in its column, its size in memory, and its own header."""

    kind: int
    begin: int
    end: int
    size: int
    header: dict[int, Any]


def _read_page(data: memoryview, position: int) -> _Page:
    """Read the header of the page that begins at a position."""
    header, begin = _read_struct(data, position)
    kind, size, compressed = header[1], header[2], header[3]
    if not 0 <= size <= _MOST_BYTES or not 0 <= compressed <= len(data) - begin:
        raise NotTaken("a page of an impossible size")
    return _Page(kind, begin, begin + compressed, size, header.get(7 if kind else 5, {}))


def _uncompressed(data: memoryview, page: _Page, codec: pa.Codec | None) -> bytes:
    content = data[page.begin : page.end]
    if codec is None:
        return bytes(content)
    return codec.decompress(content, page.size, asbytes=True)


def _end_of_levels(content: bytes, page: _Page) -> int:
    """Return where the values of a page begin, behind definition levels that say: no nulls."""
    levels = _levels_without_nulls(page.header[1])
    if page.header[3] != _RLE or not content.startswith(levels):
        raise NotTaken("definition levels of another form")
    return len(levels)


@lru_cache(8)
def _levels_without_nulls(count: int) -> bytes:
    """Return the definition levels of values none of which is null: one run of ones.

    The run is its doubled length as a ULEB128, and the value; in front of it stands how many bytes
    that takes.
    """
    run, rest = bytearray(), count << 1
    while rest > 127:
        run.append(rest & 127 | 128)
        rest >>= 7
    run += bytes([rest, 1])
    return struct.pack("<I", len(run)) + run


def _codes(content: bytes, start: int, wanted: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the codes of wanted values of a dictionary-encoded page.

    The codes are in runs, either of one code or of codes packed into `width` bits each (the RLE /
    bit-packing hybrid). Writers end a packed run at a fixed length, so wherever few values repeat,
    all runs are packed and have the same length, but for the last one. Only such pages are taken.

    Args:
        content: the page.
        start: where the width and the runs begin.
        wanted: ascending indices of values, shape (n,).

    Returns:
        Integers of shape (n,).

    Raises:
        NotTaken: the runs are others.
    """
    width, head = content[start], content[start + 1]
    # An odd head is that of a packed run; half of it is its length in groups of eight.
    groups = head >> 1
    if not head & 1 or head > 127 or not groups or not 0 < width <= 32 or len(content) < 8:
        raise NotTaken("runs of one value, short, or long ones")
    runs, within = np.divmod(wanted, 8 * groups)
    stride, last = 1 + width * groups, int(runs[-1])
    heads = content[start + 1 : start + 2 + last * stride : stride]
    if len(heads) <= last or heads[:-1].count(head) != last:
        raise NotTaken("runs of different lengths")
    end = heads[-1]
    if not end & 1 or end > 127 or within[-1] >= 8 * (end >> 1):
        raise NotTaken("runs of different lengths")
    bits = 8 * (start + 2 + runs * stride) + width * within
    # Eight bytes are read at a time, and not beyond the end of the page.
    places = np.minimum(bits >> 3, len(content) - 8)
    windows = np.ndarray((len(content) - 7,), "<u8", content, strides=(1,))[places]
    return windows >> (bits - 8 * places).view(np.uint64) & np.uint64((1 << width) - 1)


def _read_struct(data: memoryview, position: int) -> tuple[dict[int, Any], int]:
    """Read a structure in Thrift's compact protocol; return its fields by id, and where it ends.

    Only integers and structures are kept; of other fields there are none that are needed.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    fields: dict[int, Any] = {}
    field = 0
    while head := data[position]:
        position += 1
        kind = head & 15
        if not head >> 4:
            raise NotTaken("a header with fields out of order")
        field += head >> 4
        if kind == _STRUCT:
            fields[field], position = _read_struct(data, position)
        elif kind in _INTEGERS or kind == _BYTES:
            # An unsigned integer of 7 bits a byte (ULEB128).
            number = data[position]
            position += 1
            if number > 127:
                number, shift = number & 127, 7
                while (byte := data[position]) > 127:
                    number |= (byte & 127) << shift
                    shift, position = shift + 7, position + 1
                    if shift > 63:
                        raise NotTaken("an integer of too many bytes")
                number |= byte << shift
                position += 1
            if kind == _BYTES:
                position += number
            else:
                fields[field] = (number >> 1) ^ -(number & 1)
        elif kind not in _BOOLEANS:
            raise NotTaken(f"field of kind {kind} in a header")
    return fields, position + 1
