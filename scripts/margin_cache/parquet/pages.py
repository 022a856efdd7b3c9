"""Rows of a column, straight from the pages of a Parquet file.

PyArrow decodes all values of a row group, however few of its rows are wanted; in a margin that is
one in a thousand, and the decoding most of the work. Here only pages with wanted rows are
decompressed, and of them only the wanted values decoded. That is done for what catalogs mostly
consist of: columns of numbers, not nested, without nulls, in plain or dictionary-encoded pages of
the first version, as PyArrow writes them. Of all others `column_chunks.find_chunk` or `RowTaker`
say so, and PyArrow reads them.

Source: the Parquet format, https://parquet.apache.org/docs/file-format, whose names are used here.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.parquet.column_chunks import Chunk
from margin_cache.parquet.page_headers import (
    DATA_PAGE,
    DICTIONARY_PAGE,
    INDEX_PAGE,
    NotTaken,
    Page,
    read_page,
)

Values = NDArray[np.number]

_PLAIN, _DICTIONARIES, _RLE = 0, (2, 8), 3
"""Their numbers in the headers of pages."""

_DICTIONARY_PAGES = (0, 2)
"""Those of the dictionaries themselves; both mean plain values."""

_MOST_KEPT = 1 << 18
"""Numbers that are kept from one column to the next, of eight bytes each."""

_DAMAGES = (
    *(LookupError, TypeError, ValueError, OverflowError, MemoryError, RecursionError),
    *(struct.error, pa.ArrowException, OSError),
)
"""What is raised at headers and pages that make no sense, or are not there."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows that lie in pages of so many values from a certain one on.

    Attributes:
        wanted: their places in the page, ascending, shape (n,).
        places: by start, width and length of runs, where the codes of these values are.
    """

    wanted: NDArray[np.int64]
    places: dict[tuple[int, int, int], "_Places"]

    @property
    def kept(self) -> int:
        """Return how many numbers are in it."""
        return len(self.wanted) * (1 + 2 * len(self.places))


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the wanted codes of a page are, in packed runs that have the same length.

    Attributes:
        run: number of the run that the last one is in.
        within: its place in that run.
        end: bytes of the page up to its end.
        first: for each code the byte that its lowest bit is in, shape (n,).
        shift: the number of that bit, shape (n,).
    """

    run: int
    within: int
    end: int
    first: NDArray[np.int64]
    shift: NDArray[np.uint64]


class RowTaker:
    """Takes the same rows of columns of a row group.

    Pages of most columns have the same numbers of rows, and codes of the same width, so what
    follows from these is kept from one column to the next.
    """

    def __init__(self, file: pa.NativeFile, rows: NDArray[np.int64]) -> None:
        """Prepare to take rows.

        Args:
            file: the Parquet file, open.
            rows: indices of rows in the row group, ascending, perhaps repeated, shape (n,).
        """
        self._file = file
        self._rows = rows
        self._memory = bytearray()
        self._parts: dict[tuple[int, int], _Part] = {}

    def take(self, chunk: Chunk) -> Values:
        """Return the values of a column, of shape (n,).

        Raises:
            NotTaken: a page is of a kind that is not taken here, or damaged, or cannot be read.
        """
        try:
            return self._take(self._read(chunk), chunk)
        except _DAMAGES as error:
            raise NotTaken(str(error)) from None
        finally:
            if sum(part.kept for part in self._parts.values()) > _MOST_KEPT:
                self._parts.clear()

    def _read(self, chunk: Chunk) -> memoryview:
        """Read all pages of a column into memory; return the part of it that they take."""
        if chunk.start < 0 or chunk.size < 0 or chunk.start + chunk.size > self._file.size():
            raise NotTaken("the file ends within the column")
        if len(self._memory) < chunk.size:
            self._memory = bytearray(chunk.size)
        data = memoryview(self._memory)[: chunk.size]
        self._file.seek(chunk.start)
        done = 0
        while done < chunk.size:
            read = self._file.readinto(data[done:])
            if not read:
                raise NotTaken("the file ends within the column")
            done += read
        return data

    def _take(self, data: memoryview, chunk: Chunk) -> Values:
        values = np.empty(len(self._rows), chunk.dtype)
        dictionary = _Dictionary(data, chunk)
        position = first = done = 0
        # To the last page, since wrong counts of a page show in the sum.
        while first < chunk.count:
            page = read_page(data, position)
            position = page.end
            if page.kind == DICTIONARY_PAGE:
                dictionary.found(page)
            elif page.kind == DATA_PAGE:
                part = self._part(first, page.count)
                first += page.count
                if len(part.wanted):
                    stop = done + len(part.wanted)
                    values[done:stop] = _values(data, page, chunk, part, dictionary)
                    done = stop
            elif page.kind != INDEX_PAGE:
                raise NotTaken(f"page of kind {page.kind}")
        if first != chunk.count or done != len(values):
            raise NotTaken("pages of other numbers of values than the column has")
        return values

    def _part(self, first: int, count: int) -> _Part:
        """Return which of the rows are among so many values from a first one on."""
        part = self._parts.get((first, count))
        if part is None:
            low, high = self._rows.searchsorted([first, first + count])
            part = _Part(self._rows[low:high] - first, {})
            if len(self._rows) <= _MOST_KEPT:
                self._parts[first, count] = part
        return part


class _Dictionary:
    """The dictionary of a column, decoded when it is first needed."""

    def __init__(self, data: memoryview, chunk: Chunk) -> None:
        self._data = data
        self._chunk = chunk
        self._page: Page | None = None
        self._values: Values | None = None

    def found(self, page: Page) -> None:
        if self._page is not None:
            raise NotTaken("two dictionaries")
        self._page = page

    def take(self, codes: NDArray[np.uint64]) -> Values:
        if self._values is None:
            if self._page is None or self._page.encoding not in _DICTIONARY_PAGES:
                raise NotTaken("no dictionary, or one of another encoding")
            content = _uncompressed(self._data, self._page, self._chunk.codec)
            self._values = _plain_values(content, 0, self._page.count, self._chunk.dtype)
        return self._values[codes]


def _values(
    data: memoryview, page: Page, chunk: Chunk, part: _Part, dictionary: _Dictionary
) -> Values:
    """Return the wanted values of a page, one at least."""
    content = _uncompressed(data, page, chunk.codec)
    start = _end_of_levels(content, page) if chunk.has_levels else 0
    if page.encoding == _PLAIN:
        return _plain_values(content, start, page.count, chunk.dtype)[part.wanted]
    if page.encoding in _DICTIONARIES:
        return dictionary.take(_codes(content, start, part))
    raise NotTaken(f"encoding {page.encoding}")


def _plain_values(content: bytes, start: int, count: int, dtype: type[np.number]) -> Values:
    """Return values that fill a page from a start to its end."""
    values = np.frombuffer(content, dtype, offset=start)
    if len(values) != count:
        raise NotTaken("a page with another number of values than it says")
    return values


def _uncompressed(data: memoryview, page: Page, codec: pa.Codec | None) -> bytes:
    content = data[page.begin : page.end]
    if codec is None:
        return bytes(content)
    return codec.decompress(content, page.size, asbytes=True)


def _end_of_levels(content: bytes, page: Page) -> int:
    """Return where the values of a page begin, behind definition levels that say: no nulls."""
    levels = _levels_without_nulls(page.count)
    if page.levels != _RLE or not content.startswith(levels):
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


def _codes(content: bytes, start: int, part: _Part) -> NDArray[np.uint64]:
    """Return the codes of wanted values of a dictionary-encoded page.

    The codes are in runs, either of one code or of codes packed into `width` bits each (the RLE /
    bit-packing hybrid). Writers end a packed run at a fixed length, so wherever few values repeat,
    all runs are packed and have the same length, but for the last one. Only such pages are taken.

    Args:
        content: the page.
        start: where the width and the runs begin.
        part: which values are wanted, n of them and one at least.

    Returns:
        Integers of shape (n,).

    Raises:
        NotTaken: the runs are others.
    """
    width, head = content[start], content[start + 1]
    # An odd head is that of a packed run; half of it is its length in groups of eight.
    groups = head >> 1
    if not head & 1 or head > 127 or not groups or not 0 < width <= 32:
        raise NotTaken("runs of one value, short, or long ones")
    places = part.places.get((start, width, groups))
    if places is None:
        places = part.places[start, width, groups] = _places(part.wanted, start, width, groups)
    stride = 1 + width * groups
    heads = content[start + 1 : start + 2 + places.run * stride : stride]
    if len(heads) <= places.run or heads[:-1].count(head) != places.run:
        raise NotTaken("runs of different lengths")
    end = heads[-1]
    if not end & 1 or end > 127 or places.within >= 8 * (end >> 1):
        raise NotTaken("runs of different lengths")
    if places.end > len(content):
        raise NotTaken("the page ends within its runs")
    if places.first[-1] + 8 > len(content):
        # Eight bytes are read at a time.
        content += bytes(8)
    windows = np.ndarray((len(content) - 7,), "<u8", content, strides=(1,))[places.first]
    return windows >> places.shift & np.uint64((1 << width) - 1)


def _places(wanted: NDArray[np.int64], start: int, width: int, groups: int) -> _Places:
    """Return where codes are, if all runs are packed and of so many groups of eight.

    Args:
        wanted: ascending numbers of codes, shape (n,), n > 0.
        start: where the byte with the width stands, which the first run follows.
        width: bits of a code.
        groups: length of a run.
    """
    runs, within = np.divmod(wanted, 8 * groups)
    bits = 8 * (start + 2 + runs * (1 + width * groups)) + width * within
    return _Places(
        run=int(runs[-1]),
        within=int(within[-1]),
        end=(int(bits[-1]) + width + 7) // 8,
        first=bits >> 3,
        shift=(bits & 7).astype(np.uint64),
    )
