"""Positions of rows are read with no other columns; what is wrong with them is said."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.model import CatalogInfo, pixel_path
from margin_cache.catalog.partitions import partition_state
from margin_cache.errors import MarginCacheError
from margin_cache.parquet import positions
from margin_cache.parquet.positions import open_row_groups, read_positions
from margin_cache.parquet.row_selection import select_rows
from support.row_groups import group_of

ROWS = 1000

INFO = CatalogInfo(
    format="hats",
    path="sky",
    name="sky",
    epoch=None,
    ra_column="ra",
    dec_column="dec",
    index_column="_healpix_29",
    index_order=29,
    index_shift=0,
    dataset="dataset",
)
PIXEL = (1, 17)


def write_partition(directory: Path, **changes: Any) -> tuple[CatalogInfo, pa.Table]:
    """A catalog of one partition, in two row groups; its rows are spread over its pixel."""
    rng = np.random.default_rng(2)
    columns = {
        "_healpix_29": np.sort((17 << 56) + rng.integers(0, 1 << 56, 100)),
        "ra": rng.uniform(-360, 720, 100),
        "dec": rng.uniform(-90, 90, 100),
    } | changes
    table = pa.table(columns)
    info = replace(INFO, path=str(directory / "sky"))
    path = info.partition_path(*PIXEL)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=60)
    return info, table


def read_all(info: CatalogInfo, table: pa.Table) -> pa.Table:
    groups = open_row_groups(info, PIXEL, partition_state(info, *PIXEL), table.schema)
    return pa.concat_tables(
        [batch for group in groups for batch in read_positions(info, PIXEL, group, 1)]
    )


def test_positions_of_all_row_groups_are_those_of_the_file(tmp_path: Path) -> None:
    info, table = write_partition(tmp_path, mag=np.ones(100))
    assert read_all(info, table).equals(table.drop_columns("mag"))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("ra", np.nan, "1 rows have a null, NaN or impossible ra or dec"),
        ("ra", 720.1, "1 rows have a null, NaN or impossible ra or dec"),
        ("dec", -90.1, "1 rows have a null, NaN or impossible ra or dec"),
        ("dec", None, "1 rows have a null, NaN or impossible ra or dec"),
        ("_healpix_29", None, "1 rows have a null _healpix_29"),
        ("_healpix_29", (17 << 56) - 1, "1 rows have a _healpix_29 outside the partition's pixel"),
        ("_healpix_29", 18 << 56, "1 rows have a _healpix_29 outside the partition's pixel"),
    ],
)
def test_rows_without_a_position_in_the_partition_are_counted(
    column: str, value: float | None, said: str, tmp_path: Path
) -> None:
    info, table = write_partition(tmp_path)
    values = table[column].to_pylist()
    values[70] = value
    info, table = write_partition(tmp_path, **{column: pa.array(values, table[column].type)})
    with pytest.raises(MarginCacheError, match=re.escape(said)):
        read_all(info, table)


def test_a_partition_that_has_changed_is_refused(tmp_path: Path) -> None:
    info, table = write_partition(tmp_path)
    size, time = partition_state(info, *PIXEL)
    path = info.partition_path(*PIXEL)
    for state in ((size + 1, time), (size, time - 1)):
        with pytest.raises(MarginCacheError, match=f"{path}: was changed after the run began"):
            list(open_row_groups(info, PIXEL, state, table.schema))
    shutil.rmtree(path.parent)
    with pytest.raises(MarginCacheError, match=f"{path}: was changed after the run began"):
        list(open_row_groups(info, PIXEL, (size, time), table.schema))


def test_a_partition_of_other_columns_than_the_catalog_is_refused(tmp_path: Path) -> None:
    info, table = write_partition(tmp_path)
    state = partition_state(info, *PIXEL)
    for schema in (
        table.schema.append(pa.field("mag", pa.float32())),
        table.schema.set(1, pa.field("ra", pa.float32())),
    ):
        with pytest.raises(MarginCacheError, match=pixel_path(*PIXEL)):
            list(open_row_groups(info, PIXEL, state, schema))


def test_positions_are_no_more_than_their_columns(tmp_path: Path) -> None:
    """Though Parquet also reads what is inside others by a path that is the name of one."""
    numbers = pa.array(np.arange(10.0))
    both = pa.StructArray.from_arrays([numbers, numbers], ["ra", "epoch"])
    table = pa.table({"coord.ra": numbers, "dec": numbers, "coord": both})
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    group = group_of(path)
    info = replace(INFO, ra_column="coord.ra", index_column=None)
    (taken,) = read_positions(info, (0, 0), group, 1)
    assert taken.schema.names == ["coord.ra", "dec"]
    assert select_rows(group, taken, np.arange(10), table.schema, 1).equals(table)


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
