"""Opens Parquet files safely, and reads parts of footers and pages that PyArrow does not show.

PyArrow kills the process when it is asked about a column that is encrypted or has an unknown codec.
`open_parquet` finds such columns first, in the footer. Parsing a footer in Python is slow, so a
quick search decides whether it is necessary.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import errno
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.files import check_ordinary
from margin_cache.storage.local_listing import TAIL_BYTES, fetch_footer

_TRANSIENT_ERRNO = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOMEM}
"""Errors of the system that say nothing about the file itself."""

READ_BYTES = 1 << 20
"""Buffer for each column; without it, PyArrow loads the chunks of a row group whole."""

MAX_HEADER_BYTES = 1 << 16
"""Bytes to read for a page header, which can have the smallest and the largest value."""

_ENCRYPTED = "encrypted metadata"
"""PyArrow's error for an encrypted footer."""

_UNKNOWN_CODEC = re.compile(
    rb"\x15(?:[^\x00\x02\x04\x06\x08\x0a\x0c\x0e\x80-\xff]|[\x80-\xff]+[\x00-\x7f])"
    rb"(?:\x16[\x80-\xff]*[\x00-\x7f]){3}[\x19\x26]",
    re.DOTALL,
)
"""A codec other than the eight known ones: between its field header and three numbers that every
column has. Other bytes can match by chance."""

_CODECS = range(8)

_ROWS = 3
_ROW_GROUPS, _COLUMNS, _METADATA, _CODEC = 4, 1, 3, 4
_CRYPTO_METADATA, _ENCRYPTED_METADATA = 8, 9
"""Field numbers in the metadata of a file, a row group and a column."""

_PAGE_TYPE, _CHECKSUM = 1, 4
"""Field numbers in a page header."""

_DATA_PAGE_V2 = 3

_TRUE, _FALSE, _BYTE, _DOUBLE, _BYTES, _LIST, _SET, _MAP, _STRUCT, _UUID = (
    *(1, 2, 3, 7, 8, 9, 10, 11, 12, 13),
)
_INTEGERS = (4, 5, 6)
"""Types in Thrift's compact protocol."""


def open_parquet(path: Path, source: pa.NativeFile | None = None) -> pq.ParquetFile:
    """Open a Parquet file, or an open `source` of it, to read with one thread and little memory.

    Raises:
        MarginCacheError: it is missing, unreadable, truncated, encrypted, or has an unknown codec.
    """
    check_ordinary(path)
    try:
        if source is None:
            fetch_footer(path)
            source = pa.OSFile(str(path))
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=READ_BYTES)
        problem = _unreadable_column(source, file)
    except FileNotFoundError:
        raise MarginCacheError(f"{path}: no such file.") from None
    except (pa.ArrowException, OSError) as error:
        if _ENCRYPTED in str(error):
            problem = "the file is encrypted, which is not supported"
        else:
            raise unreadable(path, error) from None
    if problem:
        raise MarginCacheError(f"{path}: {problem}. Rewrite the catalog.")
    return file


def unreadable(path: Path, error: BaseException) -> MarginCacheError:
    """Return the error for a file that could not be read."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return RetryableError(f"{path}: cannot be read ({reason}). Check the disk or file server.")
    return MarginCacheError(f"{path}: cannot be read ({reason}). Copy the file again.")


def _unreadable_column(source: pa.NativeFile, file: pq.ParquetFile) -> str:
    """Describe the first column that makes PyArrow kill the process; "" if there is none."""
    end = source.size() - TAIL_BYTES
    length = int.from_bytes(source.read_at(4, end), "little")
    # Files with encrypted columns have a signature in the footer, which PyArrow does not count.
    is_signed = file.metadata.serialized_size != length
    footer = source.read_at(length, end - length)
    if not is_signed and not _UNKNOWN_CODEC.search(footer):
        return ""
    try:
        for group in _ThriftReader(footer).structure().get(_ROW_GROUPS, []):
            for number, column in enumerate(group.get(_COLUMNS, [])):
                if problem := _column_problem(column):
                    return f"column {file.schema.column(number).path} {problem}"
    except (LookupError, AttributeError, TypeError, struct.error, RecursionError):
        return "the footer is damaged"
    return ""


def _column_problem(column: dict[int, Any]) -> str:
    if _CRYPTO_METADATA in column or _ENCRYPTED_METADATA in column:
        return "is encrypted, which is not supported"
    codec = column.get(_METADATA, {}).get(_CODEC, 0)
    return "" if codec in _CODECS else f"is compressed with the unknown codec {codec}"


class FooterParts(NamedTuple):
    """A footer, split at the numbers of rows and of row groups.

    Attributes:
        before: everything before the number of rows: the schema.
        rows: number of rows.
        groups: number of row groups.
        after: the row groups and everything after them.
    """

    before: bytes
    rows: int
    groups: int
    after: bytes


def footer_of(path: Path) -> bytes:
    """Return the footer of a Parquet file that has hardly more than a footer."""
    content = path.read_bytes()
    length = int.from_bytes(content[-TAIL_BYTES:-4], "little")
    return content[max(0, len(content) - TAIL_BYTES - length) : -TAIL_BYTES]


def footer_parts(footer: bytes) -> FooterParts:
    """Split a footer.

    Raises:
        ValueError: it is damaged, or has unexpected fields.
    """
    reader = _ThriftReader(footer)
    try:
        number = start = 0
        while number != _ROWS:
            start = reader.position
            number, type_ = reader.field(number)
            if number != _ROWS:
                reader.value(type_)
        rows = reader.integer()
        number, type_ = reader.field(number)
        groups, _ = reader.list_head()
    except (LookupError, RecursionError) as error:
        raise ValueError("not a footer") from error
    if (number, type_) != (_ROW_GROUPS, _LIST):
        raise ValueError("no row groups after the number of rows")
    return FooterParts(footer[:start], rows, groups, footer[reader.position :])


def compact_integer(value: int) -> bytes:
    """Encode a non-negative integer in Thrift's compact protocol."""
    return _compact_number(2 * value)


def compact_list_head(count: int) -> bytes:
    """Encode the header of a list of structures in Thrift's compact protocol."""
    if count < 15:
        return bytes([count << 4 | _STRUCT])
    return bytes([15 << 4 | _STRUCT]) + _compact_number(count)


def _compact_number(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


class PageHeader(NamedTuple):
    is_second_version: bool
    has_checksum: bool


def read_page_header(path: Path, offset: int) -> PageHeader:
    """Read the header of the data page at an offset; return the usual one if it is unreadable."""
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(MAX_HEADER_BYTES)
    try:
        header = _ThriftReader(head).structure()
    except (LookupError, RecursionError):
        return PageHeader(is_second_version=False, has_checksum=False)
    return PageHeader(header.get(_PAGE_TYPE) == _DATA_PAGE_V2, _CHECKSUM in header)


class _ThriftReader:
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
            number, type_ = self.field(number)
            if not type_:
                break
            fields[number] = type_ == _TRUE if type_ in (_TRUE, _FALSE) else self.value(type_)
        return fields

    def field(self, number: int) -> tuple[int, int]:
        """Read a field header, after the field `number`; return number and type, 0 at the end."""
        head = self._byte()
        if not head:
            return number, 0
        return number + (head >> 4) if head >> 4 else self.integer(), head & 15

    def list_head(self) -> tuple[int, int]:
        """Read a list header; return the number of elements and their type."""
        head = self._byte()
        return head >> 4 if head >> 4 < 15 else self._number(), head & 15

    def value(self, type_: int) -> Any:
        if type_ in _INTEGERS:
            return self.integer()
        if type_ == _BYTES:
            return self._bytes(self._number())
        if type_ == _STRUCT:
            return self.structure()
        if type_ in (_LIST, _SET):
            count, type_ = self.list_head()
            return [self.value(type_) for _ in range(count)]
        if type_ == _MAP:
            count = self._number()
            types = self._byte() if count else 0
            return [(self.value(types >> 4), self.value(types & 15)) for _ in range(count)]
        if type_ in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if type_ in (_DOUBLE, _UUID):
            return self._bytes(8 if type_ == _DOUBLE else 16)
        raise LookupError(f"unknown type {type_}")

    def integer(self) -> int:
        number = self._number()
        return number >> 1 ^ -(number & 1)

    def _byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _bytes(self, count: int) -> bytes:
        self.position += count
        if self.position > len(self._data):
            raise LookupError("a value ends after the footer")
        return self._data[self.position - count : self.position]

    def _number(self) -> int:
        """Read an unsigned integer (ULEB128)."""
        number = shift = 0
        while (byte := self._byte()) > 127:
            number |= (byte & 127) << shift
            shift += 7
        return number | byte << shift
