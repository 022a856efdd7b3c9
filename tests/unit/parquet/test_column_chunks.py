"""Ranges hold what reading needs: a file with nothing else in it is read as the whole is."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet.column_chunks import column_ranges, groups_of, row_ranges
from margin_cache.storage.local_listing import ByteRange, footer_on_disk

ROWS = 1000


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


def with_holes(path: Path, ranges: list[ByteRange]) -> Path:
    """A file that has its footer and some ranges, and zeros elsewhere."""
    other = path.with_name("holes.parquet")
    content = path.read_bytes()
    with other.open("wb") as written:
        os.ftruncate(written.fileno(), len(content))
        for start, end in [*ranges, footer_on_disk(path)]:
            os.pwrite(written.fileno(), content[start:end], start)
    return other


def test_columns_are_read_from_their_ranges(file: Path) -> None:
    for columns in (["a"], ["a.b", "text"], ["nested"]):
        other = with_holes(file, column_ranges(pq.ParquetFile(file), columns))
        assert pq.read_table(other, columns=columns) == pq.read_table(file, columns=columns)
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(with_holes(file, column_ranges(pq.ParquetFile(file), ["a"])))


def test_columns_that_are_not_there_have_no_ranges(file: Path) -> None:
    assert column_ranges(pq.ParquetFile(file), ["none"]) == []


def test_row_groups_with_wanted_rows_are_read_from_their_ranges(file: Path) -> None:
    opened = pq.ParquetFile(file)
    rows = np.array([149, 150, 150, 600, 999])
    assert groups_of(opened.metadata, rows) == [0, 1, 4, 6]
    other = pq.ParquetFile(with_holes(file, row_ranges(opened, rows)))
    assert other.read_row_groups([0, 1, 4, 6]) == opened.read_row_groups([0, 1, 4, 6])
    with pytest.raises((OSError, pa.ArrowException)):
        other.read_row_group(2)
