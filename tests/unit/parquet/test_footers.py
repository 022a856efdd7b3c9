"""Footers tell types, sizes and byte ranges of columns; many footers are joined as by PyArrow."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet.footers import (
    Range,
    column_ranges,
    column_sizes,
    int96_columns,
    join_footers,
    row_ranges,
)
from support.typed_tables import typed_table

ROWS = 1000


# --- types ----------------------------------------------------------------------------------


def test_columns_of_int96_are_found_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "file"
    times = pa.array([1], pa.timestamp("us"))
    table = pa.table(
        {"a": [1], "a.b": times, "c": pa.array([[1]], pa.list_(pa.timestamp("us"))), "d": [2]}
    )
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert int96_columns(pq.ParquetFile(path)) == {"a.b", "c"}
    pq.write_table(table, path)
    assert int96_columns(pq.ParquetFile(path)) == set()


# --- sizes ----------------------------------------------------------------------------------


def test_sizes_are_of_the_largest_row_group_with_nested_columns(tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).random(ROWS)
    inner = pa.StructArray.from_arrays([pa.array(numbers)] * 2, ["b", "c.d"])
    table = pa.table({"a": inner, "a.x": numbers, "zero": np.zeros(ROWS, np.int32)})
    path = tmp_path / "table.parquet"
    pq.write_table(table, path, row_group_size=600, compression="none", use_dictionary=False)
    file = pq.ParquetFile(path)
    sizes = column_sizes(file, table.column_names)
    group = file.metadata.row_group(0)
    chunks = [group.column(number).total_compressed_size for number in range(4)]
    assert [sizes[name].stored for name in table.column_names] == [sum(chunks[:2]), *chunks[2:]]
    assert sizes["a"].row == pytest.approx(16, rel=0.1)
    assert sizes["a.x"].row == pytest.approx(8, rel=0.1)


def test_sizes_in_memory_are_at_least_the_width_of_the_type(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table({"x": np.zeros(ROWS), "s": ["a"] * ROWS, "nothing": pa.nulls(ROWS)})
    pq.write_table(table, path)
    sizes = column_sizes(pq.ParquetFile(path), table.column_names)
    assert (sizes["x"].row, sizes["s"].row) == (8, 16)
    assert sizes["x"].stored < 200


# --- ranges ---------------------------------------------------------------------------------


@pytest.fixture(params=["snappy", "none", "zstd"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "a": rng.integers(0, 5, ROWS),
            "a.b": rng.normal(size=ROWS),
            "nested": [{"a": number, "c": [number] * (number % 3)} for number in range(ROWS)],
            "text": [f"word {number % 7}" for number in range(ROWS)],
        }
    )
    path = tmp_path / "whole.parquet"
    pq.write_table(table, path, row_group_size=150, compression=request.param)
    return path


def with_holes(path: Path, ranges: list[Range]) -> Path:
    """A file that has its footer and some ranges, and zeros elsewhere."""
    other = path.with_name("holes.parquet")
    content = path.read_bytes()
    with other.open("wb") as written:
        os.ftruncate(written.fileno(), len(content))
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        for start, end in [*ranges, (footer, len(content))]:
            os.pwrite(written.fileno(), content[start:end], start)
    return other


@pytest.fixture
def no_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("margin_cache.parquet.footers._SMALL_GROUP_BYTES", 0)


@pytest.mark.usefixtures("no_small_groups")
def test_columns_are_read_from_their_ranges(file: Path) -> None:
    for columns in (["a"], ["a.b", "text"], ["nested"]):
        other = with_holes(file, column_ranges(pq.ParquetFile(file), columns))
        assert pq.read_table(other, columns=columns) == pq.read_table(file, columns=columns)
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(with_holes(file, column_ranges(pq.ParquetFile(file), ["a"])))


def test_many_small_row_groups_are_one_range(file: Path) -> None:
    """One request gets them all; by their columns, there would be some for each."""
    opened = pq.ParquetFile(file)
    (whole,) = column_ranges(opened, ["a"])
    assert pq.read_table(with_holes(file, [whole])) == pq.read_table(file)
    assert row_ranges(opened, np.arange(ROWS), ["a"]) == []


@pytest.mark.usefixtures("no_small_groups")
def test_row_groups_with_selected_rows_are_read_from_their_ranges(file: Path) -> None:
    opened = pq.ParquetFile(file)
    rows = np.array([149, 150, 150, 600, 999])
    other = pq.ParquetFile(with_holes(file, row_ranges(opened, rows, ["text"])))
    others = [name for name in opened.schema_arrow.names if name != "text"]
    found = other.read_row_groups([0, 1, 4, 6], columns=others)
    assert found == opened.read_row_groups([0, 1, 4, 6], columns=others)
    with pytest.raises((OSError, pa.ArrowException)):
        other.read_row_group(0, columns=["text"])
    with pytest.raises((OSError, pa.ArrowException)):
        other.read_row_group(2)


# --- joining --------------------------------------------------------------------------------


def write_footers(directory: Path, table: pa.Table, counts: list[int]) -> list[Path]:
    """Files that consist of the footers of `counts` files each, as reduce jobs write them."""
    sink = directory / "table.parquet"
    paths = []
    for number, count in enumerate(counts):
        collected = []
        for part in range(count):
            pq.write_table(table.slice(part, 1 + part), sink, row_group_size=2)
            collected.append(pq.read_metadata(sink))
            collected[-1].set_file_path(f"{number}/{part}.parquet")
        paths.append(directory / f"{number}.parquet")
        pq.write_metadata(table.schema, paths[-1], metadata_collector=collected)
    return paths


def joined_by_pyarrow(paths: list[Path], target: Path) -> None:
    first, *others = map(pq.read_metadata, paths)
    for other in others:
        first.append_row_groups(other)
    first.write_metadata_file(target)


@pytest.mark.parametrize("counts", [[1], [0], [2, 0, 3], [14], [15], [3] * 50], ids=str)
@pytest.mark.parametrize("typed", [False, True])
def test_joined_footers_equal_those_of_pyarrow(
    counts: list[int], typed: bool, tmp_path: Path
) -> None:
    table = typed_table(40, 1) if typed else pa.table({"x": range(40)})
    if typed and len(counts) > 3:
        counts = counts[:9]
    paths = write_footers(tmp_path, table, counts)
    pq.write_metadata(table.schema, tmp_path / "common")
    assert join_footers(tmp_path / "common", paths, tmp_path / "joined")
    joined_by_pyarrow(paths, tmp_path / "expected")
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "expected").read_bytes()
    sizes = [path.stat().st_size for path in paths]
    assert (tmp_path / "joined").stat().st_size <= sum(sizes) + 20


def test_footers_of_other_columns_or_metadata_are_not_joined(tmp_path: Path) -> None:
    table = pa.table({"x": range(40)})
    paths = write_footers(tmp_path, table, [1, 2])
    for other in (table.rename_columns(["y"]), table.replace_schema_metadata({"a": "b"})):
        pq.write_metadata(other.schema, tmp_path / "common")
        assert not join_footers(tmp_path / "common", paths, tmp_path / "joined")
        assert not (tmp_path / "joined").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", bytes(100), b"\x15\x00" * 50])
def test_damaged_footers_are_not_joined(content: bytes, tmp_path: Path) -> None:
    paths = write_footers(tmp_path, pa.table({"x": range(40)}), [1, 2])
    pq.write_metadata(pa.schema({"x": pa.int64()}), tmp_path / "common")
    paths[1].write_bytes(content)
    assert not join_footers(tmp_path / "common", paths, tmp_path / "joined")
