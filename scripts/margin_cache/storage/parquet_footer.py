"""What of a Parquet file PyArrow does not say, or would end the process if asked for.

PyArrow's objects for columns of row groups are made without a way for errors out of C++: of a
column that is encrypted, or compressed in an unknown way, the interpreter aborts. So the footer is
read here before. That takes Python long, so it is done only if a quick look finds a reason.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

_TAIL = 8
"""Bytes behind the footer: its length and the format's name."""

_STRANGE_CODEC = re.compile(
    rb"\x15(?:[^\x00\x02\x04\x06\x08\x0a\x0c\x0e\x80-\xff]|[\x80-\xff]+[\x00-\x7f])"
    rb"(?:\x16[\x80-\xff]*[\x00-\x7f]){3}[\x19\x26]",
    re.DOTALL,
)
"""A codec that is none of the eight known ones, behind the head of its field and before three
numbers, which are always there."""

_CODECS = range(8)

_ROWS = 3
_ROW_GROUPS, _COLUMNS, _METADATA, _CODEC = 4, 1, 3, 4
_CRYPTO_METADATA, _ENCRYPTED_METADATA = 8, 9
"""Numbers of fields of the file's, a row group's, and a column's metadata."""

_PAGE_TYPE, _CHECKSUM = 1, 4
"""Numbers of fields of a page's header."""

_SECOND_VERSION = 3
"""The type of data pages of version 2."""

MOST_HEADER = 1 << 16
"""Bytes that are read of a page's header, which can hold the least and the largest value."""

_TRUE, _FALSE, _BYTE, _DOUBLE, _BYTES, _LIST, _SET, _MAP, _STRUCT, _UUID = (
    *(1, 2, 3, 7, 8, 9, 10, 11, 12, 13),
)
_INTEGERS = (4, 5, 6)


def problem_of_columns(source: pa.NativeFile, file: pq.ParquetFile) -> str:
    """Say which column PyArrow must not be asked about, and why; nothing if there is none.

    Args:
        source: the file, open.
        file: the same, as Parquet, which PyArrow has found whole.
    """
    end = source.size() - _TAIL
    length = int.from_bytes(source.read_at(4, end), "little")
    # The footer of a file with encrypted columns is signed, which PyArrow does not count.
    is_signed = file.metadata.serialized_size != length
    footer = source.read_at(length, end - length)
    if not is_signed and not _STRANGE_CODEC.search(footer):
        return ""
    try:
        groups = _Reader(footer).structure().get(_ROW_GROUPS, [])
        for group in groups:
            for number, column in enumerate(group.get(_COLUMNS, [])):
                problem = _problem(column)
                if problem:
                    return f"the column {file.schema.column(number).path} {problem}"
    except (LookupError, AttributeError, TypeError, struct.error, RecursionError):
        return "its footer is damaged"
    return ""


def _problem(column: dict[int, Any]) -> str:
    if _CRYPTO_METADATA in column or _ENCRYPTED_METADATA in column:
        return "is encrypted, which is not read here"
    codec = column.get(_METADATA, {}).get(_CODEC, 0)
    return "" if codec in _CODECS else f"is compressed with an unknown codec, number {codec}"


class FooterParts(NamedTuple):
    """A footer, cut where the numbers of rows and of row groups are.

    Attributes:
        before: all before the number of rows: the schema.
        rows: number of rows.
        groups: number of row groups.
        after: the row groups and all behind them.
    """

    before: bytes
    rows: int
    groups: int
    after: bytes


def footer_of(path: Path) -> bytes:
    """Return the footer of a Parquet file, which is hardly longer than its footer."""
    content = path.read_bytes()
    length = int.from_bytes(content[-_TAIL:-4], "little")
    return content[max(0, len(content) - _TAIL - length) : -_TAIL]


def footer_parts(footer: bytes) -> FooterParts:
    """Cut a footer into parts.

    Raises:
        ValueError: it is damaged, or has other fields than usual.
    """
    reader = _Reader(footer)
    try:
        number = start = 0
        while number != _ROWS:
            start = reader.position
            number, kind = reader.field(number)
            if number != _ROWS:
                reader.value(kind)
        rows = reader.integer()
        number, kind = reader.field(number)
        groups, _ = reader.list_head()
    except (LookupError, RecursionError) as error:
        raise ValueError("not a footer") from error
    if (number, kind) != (_ROW_GROUPS, _LIST):
        raise ValueError("no row groups behind the number of rows")
    return FooterParts(footer[:start], rows, groups, footer[reader.position :])


def compact_integer(value: int) -> bytes:
    """Return an integer that is not negative as Thrift's compact protocol has it."""
    return _compact_number(2 * value)


def compact_list_head(count: int) -> bytes:
    """Return what stands before the elements of a list of structures."""
    if count < 15:
        return bytes([count << 4 | _STRUCT])
    return bytes([15 << 4 | _STRUCT]) + _compact_number(count)


def _compact_number(value: int) -> bytes:
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes([*coded, value])


class PageHeader(NamedTuple):
    """What the header of a data page says.

    Attributes:
        is_second_version: whether it is a data page of version 2.
        has_checksum: whether the page has a checksum.
    """

    is_second_version: bool
    has_checksum: bool


def read_page_header(path: Path, offset: int) -> PageHeader:
    """Return what the header of a data page says; of one that cannot be read, what most say.

    Args:
        path: the Parquet file.
        offset: where the page begins.
    """
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(MOST_HEADER)
    try:
        header = _Reader(head).structure()
    except (LookupError, RecursionError):
        return PageHeader(is_second_version=False, has_checksum=False)
    return PageHeader(header.get(_PAGE_TYPE) == _SECOND_VERSION, _CHECKSUM in header)


class _Reader:
    """Reads values in Thrift's compact protocol.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def structure(self) -> dict[int, Any]:
        """Read a structure; return its fields by their numbers."""
        fields: dict[int, Any] = {}
        number = 0
        while True:
            number, kind = self.field(number)
            if not kind:
                break
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self.value(kind)
        return fields

    def field(self, number: int) -> tuple[int, int]:
        """Read the head of a field; return its number and kind, which is 0 behind the last one.

        Args:
            number: number of the field before, 0 for none.
        """
        head = self._byte()
        if not head:
            return number, 0
        return number + (head >> 4) if head >> 4 else self.integer(), head & 15

    def list_head(self) -> tuple[int, int]:
        """Read what stands before the elements of a list; return their number and kind."""
        head = self._byte()
        return head >> 4 if head >> 4 < 15 else self._number(), head & 15

    def value(self, kind: int) -> Any:
        """Read a value of a kind."""
        if kind in _INTEGERS:
            return self.integer()
        if kind == _BYTES:
            return self._bytes(self._number())
        if kind == _STRUCT:
            return self.structure()
        if kind in (_LIST, _SET):
            count, kind = self.list_head()
            return [self.value(kind) for _ in range(count)]
        if kind == _MAP:
            count = self._number()
            kinds = self._byte() if count else 0
            return [(self.value(kinds >> 4), self.value(kinds & 15)) for _ in range(count)]
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in (_DOUBLE, _UUID):
            return self._bytes(8 if kind == _DOUBLE else 16)
        raise LookupError(f"field of kind {kind}")

    def _byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _bytes(self, count: int) -> bytes:
        self.position += count
        if self.position > len(self._data):
            raise LookupError("a value that goes on beyond the footer")
        return self._data[self.position - count : self.position]

    def _number(self) -> int:
        """Read an unsigned integer of seven bits a byte (ULEB128)."""
        number = shift = 0
        while (byte := self._byte()) > 127:
            number |= (byte & 127) << shift
            shift += 7
        return number | byte << shift

    def integer(self) -> int:
        """Read an integer."""
        number = self._number()
        return number >> 1 ^ -(number & 1)
