"""Values taken straight from pages are those that PyArrow reads, or none are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from margin_cache.parquet import pages
from margin_cache.parquet.page_headers import NotTaken, Page
from margin_cache.parquet.pages import Chunk, RowTaker
from support.column_chunks import chunks_of

ROWS = 30_000
KINDS = (pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64())


def taken_columns(path: Path, rows: npt.NDArray[np.int64]) -> set[str]:
    """The columns that are taken of a file, after a check that their values are PyArrow's."""
    file, taken, left = pq.ParquetFile(path), set(), set()
    with pa.OSFile(str(path)) as raw:
        takers = {}
        for group, name, chunk in chunks_of(path):
            if chunk is None:
                left.add(name)
                continue
            wanted = rows[rows < file.metadata.row_group(group).num_rows]
            try:
                values = pa.array(takers.setdefault(group, RowTaker(raw, wanted)).take(chunk))
            except NotTaken as reason:
                assert "runs" in str(reason), name
                left.add(name)
                continue
            column = file.read_row_group(group, columns=[name])[name]
            expected = column.take(pa.array(wanted)).combine_chunks()
            # As bytes, since a NaN has to keep its bits, and is not equal to itself.
            assert values.type == expected.type
            assert values.to_numpy().tobytes() == expected.to_numpy().tobytes(), name
            taken.add(name)
    return taken - left


def columns(rng: np.random.Generator) -> dict[str, pa.Array]:
    """A column of each kind and of each manner: random, of few values, constant, and in runs."""
    manners = {
        "random": rng.integers(0, 1 << 31, ROWS),
        "few": rng.integers(0, 700, ROWS),
        "constant": np.full(ROWS, 7),
        "long_runs": np.repeat(rng.integers(0, 1 << 20, ROWS // 1000 + 1), 1000)[:ROWS],
        "short_runs": np.repeat(rng.integers(0, 9, ROWS), rng.integers(1, 40, ROWS))[:ROWS],
        "mixed": np.where(np.arange(ROWS) % 5000 < 3000, 3, rng.integers(0, 1 << 16, ROWS)),
        "two": rng.integers(0, 2, ROWS),
    }
    return {
        f"{manner}_{kind}": pa.array(values.astype(kind.to_pandas_dtype()))
        for kind in KINDS
        for manner, values in manners.items()
    }


WRITERS: dict[str, dict[str, Any]] = {
    "usual": {},
    "snappy": {"compression": "snappy"},
    "zstd": {"compression": "zstd"},
    "none": {"compression": "none"},
    "plain": {"use_dictionary": False, "compression": "zstd"},
    "small_pages": {"data_page_size": 2000, "write_batch_size": 100},
    "small_dictionary": {"dictionary_pagesize_limit": 20_000, "compression": "zstd"},
    "row_groups": {"row_group_size": 7001},
    "first_version": {"version": "1.0"},
    "checksums": {"write_page_checksum": True},
    "page_index": {"write_page_index": True},
}


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("writer", WRITERS)
def test_values_are_those_of_pyarrow(writer: str, nullable: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    table = pa.table(columns(rng))
    schema = pa.schema([field.with_nullable(nullable) for field in table.schema])
    path = tmp_path / "table.parquet"
    pq.write_table(table.cast(schema), path, **WRITERS[writer])
    expected = {name for name in table.column_names if name.startswith(("random", "few"))}
    if writer == "plain":
        expected = set(table.column_names)
    if writer == "first_version":
        # It has no 32-bit integers without a sign.
        expected = {name for name in expected if not name.endswith("uint32")}
    for rows in (
        np.sort(rng.choice(ROWS, 40, replace=False)),
        np.repeat(np.sort(rng.choice(ROWS, 9)), 3),
        np.array([0]),
        np.array([ROWS - 1]),
        np.arange(ROWS),
        np.array([], dtype=np.int64),
    ):
        assert taken_columns(path, rows) >= expected


def test_columns_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    numbers = rng.random(ROWS)
    offsets = pa.array(np.arange(0, ROWS + 1).astype(np.int32))
    table = pa.table(
        {
            "text": pa.array(numbers.astype(str)),
            "bool": pa.array(numbers < 0.5),
            "int16": pa.array((numbers * 999).astype(np.int16)),
            "time": pa.array((numbers * 1e9).astype(np.int64), pa.timestamp("us")),
            "list": pa.ListArray.from_arrays(offsets, pa.array(numbers)),
            "struct": pa.StructArray.from_arrays([pa.array(numbers)], ["inner"]),
            "decimal": pa.array((numbers * 999).astype(np.int64)).cast(pa.decimal128(20, 0)),
            "split": pa.array(numbers),
            "delta": pa.array((numbers * 1e9).astype(np.int64)),
        }
    )
    path = tmp_path / "table.parquet"
    encodings = {"split": "BYTE_STREAM_SPLIT", "delta": "DELTA_BINARY_PACKED"}
    pq.write_table(table, path, use_dictionary=["text"], column_encoding=encodings)
    found = {name: chunk for _, name, chunk in chunks_of(path)}
    assert {name.partition(".")[0] for name in found} == set(table.column_names)
    assert not any(found.values())
    for options in ({"compression": "gzip"}, {"compression": "lz4"}):
        pq.write_table(pa.table({"x": numbers}), path, **options)
        assert [chunk for *_, chunk in chunks_of(path)] == [None], options


def test_pages_of_the_second_version_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(
        pa.table({"x": np.random.default_rng(1).random(99)}), path, data_page_version="2.0"
    )
    ((_, _, chunk),) = chunks_of(path)
    assert chunk is not None
    with pa.OSFile(str(path)) as file, pytest.raises(NotTaken, match="page of kind 3"):
        RowTaker(file, np.array([1])).take(chunk)


@pytest.mark.parametrize("statistics", [True, False])
def test_columns_with_nulls_are_left_alone(statistics: bool, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    numbers = np.random.default_rng(2).random(ROWS)
    table = pa.table({"x": pa.array(numbers, mask=np.arange(ROWS) == 25_000), "y": numbers})
    pq.write_table(table, path, write_statistics=statistics, data_page_size=1 << 30)
    (_, _, x), (_, _, y) = chunks_of(path)
    assert x is not None and y is not None
    wanted = np.array([5, 24_999, 29_999])
    with pa.OSFile(str(path)) as file:
        np.testing.assert_array_equal(RowTaker(file, wanted).take(y), numbers[wanted])
        with pytest.raises(NotTaken, match="levels"):
            RowTaker(file, wanted).take(x)


def test_values_of_nan_and_of_both_zeros_keep_their_bits(tmp_path: Path) -> None:
    values = np.zeros(5000)
    values[::3] = -0.0
    values[1::5] = np.nan
    values[2::7] = np.frombuffer(np.uint64(0x7FF8000000000123).tobytes(), np.float64)[0]
    pq.write_table(pa.table({"x": values}), tmp_path / "x.parquet", use_dictionary=False)
    assert taken_columns(tmp_path / "x.parquet", np.arange(0, 5000, 3)) == {"x"}


@pytest.mark.parametrize("dictionary", [True, False])
def test_damaged_pages_are_not_taken(dictionary: bool, tmp_path: Path) -> None:
    """Or, where they are, without harm: what is wrong with a file is for PyArrow to say."""
    rng = np.random.default_rng(7)
    path = tmp_path / "table.parquet"
    table = pa.table({"x": rng.integers(0, 500, 5000)})
    pq.write_table(table, path, compression="zstd", use_dictionary=dictionary)
    ((_, _, chunk),) = chunks_of(path)
    assert chunk is not None
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(chunk.start, chunk.start + chunk.size, 3):
            damaged[place] = rng.integers(256)
        file = pa.BufferReader(bytes(damaged))
        try:
            assert len(RowTaker(file, np.arange(0, 5000, 9)).take(chunk)) == 556
        except NotTaken:
            refused += 1
    assert refused > 10
    half = pa.BufferReader(whole[: chunk.start + chunk.size // 2])
    with pytest.raises(NotTaken, match="the file ends"):
        RowTaker(half, np.array([1])).take(chunk)


def test_what_is_kept_from_column_to_column_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    most = {f"x{number}": rng.integers(0, 2**number, ROWS) for number in range(6, 14)}
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table(most), path, data_page_size=3000)
    rows = np.arange(0, ROWS, 10)
    for limit, least, largest in ((10**9, 20_000, 10**9), (9000, 1, 9000)):
        monkeypatch.setattr(pages, "_MOST_KEPT", limit)
        kept = []
        with pa.OSFile(str(path)) as file:
            taker = RowTaker(file, rows)
            for _, name, chunk in chunks_of(path):
                assert chunk is not None
                np.testing.assert_array_equal(taker.take(chunk), most[name][rows])
                kept.append(sum(part.kept for part in taker._parts.values()))
        assert least <= max(kept) <= largest


@pytest.mark.parametrize(
    "change",
    [{"size": -20}, {"size": 1 << 50}, {"start": -1}, {"start": 1 << 62}, {"size": 0}],
)
def test_columns_that_cannot_be_in_the_file_are_not_taken(
    change: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"x": np.arange(300), "y": np.arange(300)}), path)
    (_, _, chunk), _ = chunks_of(path)
    assert chunk is not None
    with pa.OSFile(str(path)) as file:
        taker = RowTaker(file, np.array([7]))
        taker.take(chunk)
        with pytest.raises(NotTaken):
            taker.take(replace(chunk, **change))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_values_of_any_pages_are_those_of_pyarrow(data: st.DataObject, tmp_path: Path) -> None:
    count = data.draw(st.integers(1, 3000))
    runs = data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 900)), min_size=1))
    cycle = np.resize(np.concatenate([np.full(length, value) for value, length in runs]), count)
    noise = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 5000, count)
    values = np.where(cycle > data.draw(st.integers(0, 400)), noise, cycle)
    kind = data.draw(st.sampled_from(KINDS))
    path = tmp_path / "table.parquet"
    pq.write_table(
        pa.table({"x": pa.array(values.astype(kind.to_pandas_dtype()))}),
        path,
        data_page_size=data.draw(st.integers(100, 20_000)),
        write_batch_size=data.draw(st.integers(10, 2000)),
        use_dictionary=data.draw(st.booleans()),
        compression=data.draw(st.sampled_from(["none", "snappy", "zstd"])),
    )
    rows = np.sort(data.draw(st.lists(st.integers(0, count - 1), min_size=1).map(np.array)))
    taken_columns(path, rows)


Run = tuple[bool, list[int]]


def encoded(runs: list[Run], width: int) -> bytes:
    """Runs, packed or of one code, in the hybrid of RLE and bit-packing of the specification.

    Lengths are written as ULEB128; packed codes are in groups of eight, the first in the lowest
    bits.
    """
    page = bytearray([width])
    for packed, codes in runs:
        head = (len(codes) // 8) << 1 | 1 if packed else len(codes) << 1
        while head > 127:
            page.append(head & 127 | 128)
            head >>= 7
        page.append(head)
        bits = "".join(f"{code:0{width}b}" for code in reversed(codes)) if packed else ""
        size = len(codes) * width // 8 if packed else (width + 7) // 8
        page += (int(bits, 2) if packed else codes[0]).to_bytes(size, "little")
    return bytes(page)


@st.composite
def pages_of_runs(draw: st.DrawFn) -> tuple[int, list[Run]]:
    """A width, and runs most of which have the same length, packed or of one code."""
    width = draw(st.integers(1, 32))
    usual = draw(st.sampled_from([8, 16, 504, 512, 1024]))
    lengths = st.one_of(st.just(usual), st.sampled_from([8, 64, 504, 512, 1024]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    runs = []
    for packed, length in draw(
        st.lists(st.tuples(st.integers(0, 5).map(bool), lengths), min_size=1, max_size=6)
    ):
        codes = rng.integers(0, 1 << width, length).tolist()
        runs.append((packed, codes if packed else [codes[0]] * length))
    return width, runs


@settings(max_examples=1000, deadline=None)
@given(page=pages_of_runs(), start=st.integers(0, 9), data=st.data())
def test_codes_of_any_runs(page: tuple[int, list[Run]], start: int, data: st.DataObject) -> None:
    width, runs = page
    codes = np.concatenate([codes for _, codes in runs])
    wanted = np.unique(data.draw(st.lists(st.integers(0, len(codes) - 1), min_size=1, max_size=9)))
    content = bytes(start) + encoded(runs, width)
    lengths = {len(each) for _, each in runs}
    try:
        found = pages._codes(content, start, pages._Part(wanted, {}))
    except NotTaken as reason:
        assert "runs" in str(reason)
        # Those that writers make of values that do not repeat are taken.
        packed = all(packed for packed, _ in runs)
        assert not packed or len(lengths) > 1 or max(lengths) > 504
        return
    np.testing.assert_array_equal(found, codes[wanted])


@pytest.mark.parametrize("width", [0, 33, 255])
def test_codes_of_an_impossible_width_are_not_taken(width: int) -> None:
    with pytest.raises(NotTaken, match="runs"):
        pages._codes(bytes([width, 3]) + bytes(300), 0, pages._Part(np.array([1]), {}))


@pytest.mark.parametrize("count", [2, 4])
def test_plain_values_are_as_many_as_the_page_says(count: int) -> None:
    content = bytes(5) + np.arange(3).tobytes()
    assert pages._plain_values(content, 5, 3, np.int64).tolist() == [0, 1, 2]
    with pytest.raises(NotTaken, match="another number of values"):
        pages._plain_values(content, 5, count, np.int64)


@pytest.mark.parametrize("encoding", [0, 2, 5])
def test_dictionaries_are_of_plain_values(encoding: int) -> None:
    data = memoryview(np.array([7, 8, 9]).tobytes())
    chunk = Chunk(start=0, size=24, count=2, dtype=np.int64, codec=None, has_levels=False)
    dictionary = pages._Dictionary(data, chunk)
    codes = np.array([2, 0], np.uint64)
    with pytest.raises(NotTaken, match="no dictionary"):
        dictionary.take(codes)
    dictionary.found(Page(kind=2, begin=0, end=24, size=24, count=3, encoding=encoding))
    if encoding == 5:
        with pytest.raises(NotTaken, match="another encoding"):
            dictionary.take(codes)
    else:
        assert dictionary.take(codes).tolist() == [9, 7]
    with pytest.raises(NotTaken, match="two dictionaries"):
        dictionary.found(Page(kind=2, begin=0, end=24, size=24, count=3, encoding=0))


def test_definition_levels_must_say_that_there_are_no_nulls() -> None:
    page = Page(kind=0, begin=0, end=99, size=99, count=300, encoding=0, levels=3)
    # Two bytes for the length of the run, 600 = 0x258, and one for its value.
    levels = bytes([3, 0, 0, 0, 0xD8, 0x04, 1])
    assert pages._end_of_levels(levels + b"values", page) == 7
    for other in (bytes([3, 0, 0, 0, 0xD8, 0x04, 0]), bytes([3, 0, 0, 0, 0xD6, 0x04, 1]), b""):
        with pytest.raises(NotTaken, match="levels"):
            pages._end_of_levels(other + b"values", page)
    page.levels = 4
    with pytest.raises(NotTaken, match="levels"):
        pages._end_of_levels(levels + b"values", page)
