"""Sizes of columns, by which it is decided what is read together."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet.column_sizes import column_sizes

ROWS = 1000


def test_sizes_are_those_of_the_largest_row_group_with_all_that_is_inside(tmp_path: Path) -> None:
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


def test_small_numbers_take_in_memory_what_their_type_takes(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table({"x": np.zeros(ROWS), "s": ["a"] * ROWS, "nothing": pa.nulls(ROWS)})
    pq.write_table(table, path)
    sizes = column_sizes(pq.ParquetFile(path), table.column_names)
    assert (sizes["x"].row, sizes["s"].row) == (8, 16)
    assert sizes["x"].stored < 200
