"""Headers of pages are read as they are written, and none that is damaged does harm."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet import page_headers
from margin_cache.parquet.page_headers import NotTaken, read_page
from margin_cache.parquet.pages import RowTaker
from support.column_chunks import chunks_of


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damaged_headers_do_no_harm(
    compression: str, dictionary: bool, nullable: bool, tmp_path: Path
) -> None:
    """Each bit of them is flipped. Wrong values are taken only where PyArrow reads the same."""
    path = tmp_path / "table.parquet"
    numbers = np.arange(5000) % 3000
    schema = pa.schema([pa.field("x", pa.int64(), nullable=nullable)])
    pq.write_table(
        pa.table([numbers], schema=schema),
        path,
        use_dictionary=dictionary,
        compression=compression,
        data_page_size=8000,
        write_batch_size=100,
        write_statistics=False,
    )
    ((_, _, chunk),) = chunks_of(path)
    assert chunk is not None
    whole, rows = path.read_bytes(), np.arange(1000, 5000, 700)
    column = memoryview(whole)[chunk.start : chunk.start + chunk.size]
    places, end = [], 0
    while end < chunk.size:
        page = read_page(column, end)
        places += range(end, page.begin)
        end = page.end
    refused = 0
    for place in places:
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[chunk.start + place] ^= 1 << bit
            file = pa.BufferReader(bytes(damaged))
            try:
                taken = RowTaker(file, rows).take(chunk)
            except NotTaken:
                refused += 1
                continue
            if taken.tolist() != numbers[rows].tolist():
                assert taken.tolist() == pq.read_table(file)["x"].to_numpy()[rows].tolist()
    assert refused > 4 * len(places)


def test_a_header_with_an_endless_number_is_not_read_to_its_end() -> None:
    data = memoryview(bytes([0x15]) + b"\xff" * 1000)
    with pytest.raises(NotTaken, match="too many bytes"):
        page_headers._read_struct(data, 0)


def varint(number: int) -> bytes:
    """ULEB128 of a number in zigzag, as Thrift's compact protocol has integers."""
    number = number << 1 ^ number >> 63
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def fields(**values: int | bytes) -> bytes:
    """A structure of 32-bit integers and of structures, by field: f1=..., f3=..."""
    found, last = b"", 0
    for name, value in values.items():
        number = int(name[1:])
        kind, content = (12, value) if isinstance(value, bytes) else (5, varint(value))
        found += bytes([(number - last) << 4 | kind]) + content
        last = number
    return found + b"\0"


DATA = fields(f1=300, f2=8, f3=3, f4=4)


@pytest.mark.parametrize("position", [0, 13])
def test_pages_are_read_as_the_format_defines_them(position: int) -> None:
    for own, kind, expected in (
        ({"f5": DATA}, 0, (300, 8, 3)),
        ({"f7": fields(f1=77, f2=2)}, 2, (77, 2, -1)),
        ({}, 1, (0, -1, -1)),
        ({}, 3, (0, -1, -1)),
    ):
        header = fields(f1=kind, f2=70_000, f3=5, **own)
        page = read_page(memoryview(bytes(position) + header + b"12345 and more"), position)
        begin = position + len(header)
        assert (page.kind, page.begin, page.end, page.size) == (kind, begin, begin + 5, 70_000)
        assert (page.count, page.encoding, page.levels) == expected


@pytest.mark.parametrize(
    ("size", "compressed"), [(-1, 5), (5, -1), (5, 7), ((1 << 28) + 1, 5), (-(1 << 31), 0)]
)
def test_pages_of_an_impossible_size_are_not_taken(size: int, compressed: int) -> None:
    header = fields(f1=0, f2=size, f3=compressed, f5=DATA)
    with pytest.raises(NotTaken, match="impossible size"):
        read_page(memoryview(header + b"123456"), 0)


def test_other_fields_are_skipped() -> None:
    """Statistics are structures with bytes and booleans; a page's checksum is an integer."""
    text = bytes([0x18, 3]) + b"min" + bytes([0x11, 0x12, 0])
    header = bytes([0x15]) + varint(0) + bytes([0x15]) + varint(9) + bytes([0x15]) + varint(2)
    header += bytes([0x15]) + varint(-123_456_789)  # f4, the checksum
    header += bytes([0x1C]) + DATA[:-1] + bytes([0x1C]) + text + b"\0" + b"\0"
    page = read_page(memoryview(header + b"12"), 0)
    assert (page.begin, page.end, page.count) == (len(header), len(header) + 2, 300)


@pytest.mark.parametrize(
    ("header", "said"),
    [(bytes([0x05, 2, 0]), "out of order"), (bytes([0x19, 0x15, 2, 0]), "field of kind 9")],
)
def test_fields_that_no_page_has_are_not_taken(header: bytes, said: str) -> None:
    with pytest.raises(NotTaken, match=said):
        read_page(memoryview(header + bytes(9)), 0)


def test_pages_of_a_file_follow_each_other_and_hold_all_values(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    numbers = np.random.default_rng(1).integers(0, 300, 5000)
    pq.write_table(pa.table({"x": numbers}), path, data_page_size=1000, write_batch_size=100)
    ((_, _, chunk),) = chunks_of(path)
    assert chunk is not None
    column = memoryview(path.read_bytes())[chunk.start : chunk.start + chunk.size]
    found, end = [], 0
    while end < len(column):
        found.append(read_page(column, end))
        assert end < found[-1].begin <= found[-1].end
        end = found[-1].end
    assert end == len(column)
    assert [page.kind for page in found] == [2] + [0] * (len(found) - 1)
    assert len(found) > 3 and sum(page.count for page in found[1:]) == 5000
    assert found[0].count == len(np.unique(numbers)) and found[0].size == 8 * found[0].count
