"""Positions of rows are read with no other columns; what is wrong with them is said."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.parquet import positions
from margin_cache.parquet.row_selection import select_rows
from support.row_groups import group_of

ROWS = 1000


def test_positions_are_no_more_than_their_columns(tmp_path: Path) -> None:
    """Though Parquet also reads what is inside others by a path that is the name of one."""
    numbers = pa.array(np.arange(10.0))
    both = pa.StructArray.from_arrays([numbers, numbers], ["ra", "epoch"])
    table = pa.table({"coord.ra": numbers, "dec": numbers, "coord": both})
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    group = group_of(path)
    info = SimpleNamespace(
        ra_column="coord.ra", dec_column="dec", index_column=None, index_order=29, index_shift=0
    )
    plan = SimpleNamespace(
        task=SimpleNamespace(catalog=info), partitions=SimpleNamespace(orders=[0], pixels=[0])
    )
    (taken,) = positions.read_positions(plan, group)
    assert taken.schema.names == ["coord.ra", "dec"]
    assert select_rows(group, taken, np.arange(10), table.schema).equals(table)


def test_a_file_that_is_damaged_where_bad_rows_are_counted_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(1).random(ROWS)}), path, row_group_size=500)
    group = group_of(path)
    chunk = group.file.metadata.row_group(1).column(0)
    with path.open("r+b") as file:
        file.seek(chunk.dictionary_page_offset)
        file.write(b"\xff" * chunk.total_compressed_size)
    with pytest.raises(MarginCacheError, match=re.escape(f"{path}: cannot be read")):
        positions._whole(group, ["x"])
