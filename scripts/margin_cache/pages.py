"""Rows of a column, straight from the pages of a Parquet file.

PyArrow decodes all values of a row group, however few of its rows are wanted; in a margin that is
one in a thousand, and the decoding most of the work. Here only the pages with wanted rows are
decompressed, and of them only the wanted values decoded. That is done for the columns that
catalogs mostly consist of: numbers, not nested, without nulls, in plain or dictionary-encoded
pages. For all others `find_chunk` or `take_values` say so, and PyArrow reads them.

Source: the Parquet format, https://parquet.apache.org/docs/file-format, whose names are used here.
"""

import struct
from dataclasses import dataclass
from io import FileIO
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

_ENCODINGS = {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_PLAIN, _DICTIONARIES = 0, (2, 8)

_MOST_BYTES = 1 << 28
"""Pages are a megabyte or less; one of another size is damaged, or not worth while."""

_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = range(4)

_LEAST_RUN = 32
"""Runs that are shorter on average take longer to find here than to decode there."""


_DAMAGES = (LookupError, ValueError, OverflowError, RecursionError, struct.error)
"""What Python raises at headers that make no sense."""


class NotTaken(Exception):
    """The pages of a column are of another kind than those that are taken here."""


@dataclass(frozen=True)
class Chunk:
    """A column of a row group in its file.

    Attributes:
        start: offset of its first page.
        size: bytes of all its pages.
        rows: number of its rows.
        dtype: type of its values.
        codec: what its pages are compressed with, or None.
        has_levels: whether its pages begin with definition levels.
    """

    start: int
    size: int
    rows: int
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
    physical, dtype = _KINDS.get(kind, ("", np.int32))
    if metadata.physical_type != physical or column.max_repetition_level:
        return None
    has_levels = column.max_definition_level == 1
    if column.max_definition_level > 1 or not _ENCODINGS.issuperset(metadata.encodings):
        return None
    statistics = metadata.statistics if has_levels else None
    if has_levels and not (statistics and statistics.has_null_count and not statistics.null_count):
        return None
    if metadata.compression not in ("UNCOMPRESSED", "SNAPPY", "ZSTD") or metadata.file_path:
        return None
    compressed = metadata.compression != "UNCOMPRESSED"
    return Chunk(
        start=(
            metadata.dictionary_page_offset
            if metadata.has_dictionary_page and metadata.dictionary_page_offset
            else metadata.data_page_offset
        ),
        size=metadata.total_compressed_size,
        rows=metadata.num_values,
        dtype=dtype,
        codec=pa.Codec(metadata.compression.lower()) if compressed else None,
        has_levels=has_levels,
    )


def take_values(file: FileIO, chunk: Chunk, rows: NDArray[np.int64], buffer: bytearray) -> Values:
    """Return the values of a column in some rows.

    Args:
        file: the Parquet file.
        chunk: the column of a row group.
        buffer: memory to read the column into, which is made larger if need be.
        rows: indices of rows in the row group, ascending, perhaps repeated, shape (n,).

    Returns:
        Values of shape (n,).

    Raises:
        NotTaken: a page is of a kind that is not taken here, or damaged.
        OSError: the file cannot be read.
    """
    if len(buffer) < chunk.size:
        buffer.extend(bytes(chunk.size - len(buffer)))
    data = memoryview(buffer)[: chunk.size]
    file.seek(chunk.start)
    done = 0
    while done < chunk.size:
        read = file.readinto(data[done:])
        if not read:
            raise NotTaken("the file ends within the column")
        done += read
    try:
        return _take(data, chunk, rows)
    except (*_DAMAGES, pa.ArrowException, OSError) as error:
        raise NotTaken(str(error)) from None


@dataclass(frozen=True)
class _Page:
    """A page: its kind, where it lies in its column, and what its header says."""

    kind: int
    begin: int
    end: int
    size: int
    header: dict[int, Any]


def _take(data: memoryview, chunk: Chunk, rows: NDArray[np.int64]) -> Values:
    values = np.empty(len(rows), chunk.dtype)
    dictionary: Values | None = None
    coded = _CodedRows()
    position = first = low = 0
    dictionary_page = None
    while low < len(rows):
        page = _read_page(data, position)
        position = page.end
        if page.kind == _DICTIONARY_PAGE:
            dictionary_page = page
        elif page.kind in (_DATA_PAGE, _DATA_PAGE_V2):
            count = page.header[1]
            high = low + int(np.searchsorted(rows[low:], first + count))
            if high > low:
                encoding, content = _content(data, page, chunk)
                wanted = rows[low:high] - first
                if encoding == _PLAIN:
                    values[low:high] = np.frombuffer(content, chunk.dtype, count)[wanted]
                elif encoding in _DICTIONARIES:
                    coded.add(content, wanted, slice(low, high), count)
                else:
                    raise NotTaken(f"encoding {encoding}")
            low, first = high, first + count
        elif page.kind != _INDEX_PAGE:
            raise NotTaken(f"page of kind {page.kind}")
    if coded.places:
        if dictionary_page is None:
            raise NotTaken("no dictionary")
        plain = _uncompressed(data, dictionary_page, chunk.codec)
        dictionary = np.frombuffer(plain, chunk.dtype, dictionary_page.header[1])
        codes = coded.codes()
        at = 0
        for place in coded.places:
            count = place.stop - place.start
            values[place] = dictionary[codes[at : at + count]]
            at += count
    return values


def _read_page(data: memoryview, position: int) -> _Page:
    """Read the header of the page that begins at a position."""
    header, begin = _read_struct(data, position)
    kind, size, compressed = header[1], header[2], header[3]
    if not 0 <= size <= _MOST_BYTES or compressed < 0:
        raise NotTaken("a page of an impossible size")
    which = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}.get(kind)
    return _Page(kind, begin, begin + compressed, size, header[which] if which else {})


def _uncompressed(
    data: memoryview, page: _Page, codec: pa.Codec | None, skip: int = 0
) -> memoryview:
    """Return the content of a page behind its first ``skip`` bytes, which are never compressed."""
    content = data[page.begin + skip : page.end]
    if len(content) != page.end - page.begin - skip:
        raise NotTaken("the column ends within a page")
    if codec is None:
        return content
    return memoryview(codec.decompress(content, page.size - skip)).cast("B")


def _content(data: memoryview, page: _Page, chunk: Chunk) -> tuple[int, memoryview]:
    """Return the encoding of a data page, and its values without the levels before them."""
    header = page.header
    if page.kind == _DATA_PAGE_V2:
        if header[2]:
            raise NotTaken("nulls")
        codec = chunk.codec if header.get(7, True) else None
        return header[4], _uncompressed(data, page, codec, header[5] + header[6])
    content = _uncompressed(data, page, chunk.codec)
    if chunk.has_levels:
        (length,) = struct.unpack_from("<I", content)
        run, _ = _read_varint(content, 4)
        # One run of ones: the number of values, a bit for its kind, and the value.
        if header[3] != 3 or run != header[1] << 1 or content[3 + length] != 1:
            raise NotTaken("definition levels of another form")
        content = content[4 + length :]
    return header[2], content


class _CodedRows:
    """Wanted values of dictionary-encoded pages, which are decoded together at the end.

    The codes of a page are in runs, either of one value or of values packed into ``width`` bits
    each (the RLE / bit-packing hybrid).
    """

    def __init__(self) -> None:
        self.places: list[slice] = []
        self._contents: list[memoryview] = []
        self._bits: list[NDArray[np.int64]] = []
        self._widths: list[int] = []
        self._base = 0

    def add(self, content: memoryview, wanted: NDArray[np.int64], place: slice, count: int) -> None:
        """Add a page.

        Args:
            content: its bit width and runs.
            wanted: ascending indices of values, shape (n,).
            place: where they stand among all wanted values.
            count: number of its values.
        """
        width = content[0]
        if width > 32:
            raise NotTaken(f"codes of {width} bits")
        bits = _bits_of_even_runs(content, width, wanted)
        if bits is None:
            bits = _bits_of_runs(content, width, wanted, count)
        self.places.append(place)
        self._bits.append(8 * self._base + bits)
        self._widths.append(width)
        self._contents.append(content)
        self._base += len(content)

    def codes(self) -> NDArray[np.int64]:
        """Return the codes of all values that were wanted, in the order in which they came."""
        # The last code may end within the last byte, and eight are read.
        data = np.frombuffer(b"".join([*self._contents, bytes(8)]), np.uint8)
        bits = np.concatenate(self._bits)
        widths = np.repeat(self._widths, [len(each) for each in self._bits]).astype(np.uint64)
        window = data[(bits >> 3)[:, None] + np.arange(8)].view("<u8")[:, 0]
        codes = window >> (bits & 7).astype(np.uint64)
        return (codes & ((np.uint64(1) << widths) - np.uint64(1))).astype(np.int64)


def _bits_of_even_runs(
    content: memoryview, width: int, wanted: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return where codes begin, in bits, if they are in bit-packed runs of the same length.

    They are wherever few values repeat, since writers end such a run at a fixed length; only the
    last wanted value may be in a shorter one.

    Args:
        content: bit width and runs of a page.
        width: the bit width.
        wanted: ascending indices of values, shape (n,).

    Returns:
        Integers of shape (n,), or None.
    """
    head = content[1]
    if not head & 1 or not 1 < head < 128:
        return None
    length, stride = 8 * (head >> 1), 1 + width * (head >> 1)
    run, within = np.divmod(wanted, length)
    heads = np.frombuffer(content, np.uint8)[1 : 2 + int(run[-1]) * stride : stride]
    last = int(heads[-1])
    if (heads[:-1] != head).any() or not last & 1 or last > 127:
        return None
    if len(heads) <= run[-1] or within[-1] >= 8 * (last >> 1):
        return None
    return 8 * (2 + run * stride) + width * within


def _bits_of_runs(
    content: memoryview, width: int, wanted: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Return where codes begin, in bits, whatever the runs.

    Args:
        content: bit width and runs of a page.
        width: the bit width.
        wanted: ascending indices of values, shape (n,).
        count: number of the page's values.

    Returns:
        Integers of shape (n,).
    """
    starts, offsets, packed = [], [], []
    at, position = 0, 1
    while at <= wanted[-1]:
        head, position = _read_varint(content, position)
        starts.append(at)
        offsets.append(position)
        packed.append(head & 1)
        groups = head >> 1
        if not groups or len(starts) * _LEAST_RUN > count + _LEAST_RUN:
            raise NotTaken("empty runs, or many")
        at += 8 * groups if head & 1 else groups
        position += width * groups if head & 1 else (width + 7) >> 3
    run = np.searchsorted(starts, wanted, side="right") - 1
    within = np.where(np.array(packed, bool)[run], wanted - np.array(starts)[run], 0)
    return 8 * np.array(offsets)[run] + width * within


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read an unsigned integer of 7 bits a byte (ULEB128); return it and where it ends."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise NotTaken("an integer of too many bytes")


def _read_struct(data: memoryview, position: int) -> tuple[dict[int, Any], int]:
    """Read a structure in Thrift's compact protocol; return its fields by id, and where it ends.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    fields: dict[int, Any] = {}
    field = 0
    while head := data[position]:
        position += 1
        kind = head & 15
        if head >> 4:
            field += head >> 4
        else:
            number, position = _read_varint(data, position)
            field = (number >> 1) ^ -(number & 1)
        if kind in (1, 2):  # true, false
            fields[field] = kind == 1
        elif kind == 3:  # one byte
            fields[field] = data[position]
            position += 1
        elif kind in (4, 5, 6):  # integers, zigzag
            number, position = _read_varint(data, position)
            fields[field] = (number >> 1) ^ -(number & 1)
        elif kind == 7:  # double
            position += 8
        elif kind == 8:  # bytes
            length, position = _read_varint(data, position)
            position += length
        elif kind == 12:
            fields[field], position = _read_struct(data, position)
        else:
            raise NotTaken(f"field of kind {kind} in a header")
    return fields, position + 1
