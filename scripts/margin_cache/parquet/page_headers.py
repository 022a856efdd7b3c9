"""Headers of the pages of a Parquet file.

They are the ``PageHeader``, ``DataPageHeader`` and ``DictionaryPageHeader`` of
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from dataclasses import dataclass
from typing import Any

DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE = range(3)
"""Kinds of pages."""

_BOOLEANS, _INTEGERS, _BYTES, _STRUCT = (1, 2), (4, 5, 6), 8, 12
"""Kinds of fields in a header."""

_MOST_BYTES = 1 << 28
"""Pages are a megabyte or so; one that is larger is damaged, or not worth while."""


class NotTaken(Exception):
    """The pages of a column are of another kind than those that are taken here, or damaged."""


@dataclass(slots=True)
class Page:
    """A page.

    Attributes:
        kind: what it holds.
        begin: where its content begins in its column.
        end: where it ends.
        size: bytes of its content in memory.
        count: number of its values.
        encoding: of its values.
        levels: encoding of its definition levels.
    """

    kind: int
    begin: int
    end: int
    size: int
    count: int = 0
    encoding: int = -1
    levels: int = -1


def read_page(data: memoryview, position: int) -> Page:
    """Read the header of a page.

    Args:
        data: all pages of a column, as they are in the file.
        position: where the page begins.

    Raises:
        NotTaken: it is damaged. Damages may show as other errors of Python's as well.
    """
    header, begin = _read_struct(data, position)
    kind, size, compressed = header[1], header[2], header[3]
    if not 0 <= size <= _MOST_BYTES or not 0 <= compressed <= len(data) - begin:
        raise NotTaken("a page of an impossible size")
    page = Page(kind, begin, begin + compressed, size)
    if kind == DATA_PAGE:
        own = header[5]
        page.count, page.encoding, page.levels = own[1], own[2], own[3]
    elif kind == DICTIONARY_PAGE:
        own = header[7]
        page.count, page.encoding = own[1], own[2]
    return page


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
