"""Footers of many files are put together as PyArrow does it, without its objects."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet.joined_footers import join_footers, joined_size
from support.typed_tables import typed_table


def write_footers(directory: Path, table: pa.Table, counts: list[int]) -> list[Path]:
    """Files with the footers of some numbers of files of a table, as reduce jobs leave them."""
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
def test_the_result_is_that_of_pyarrow(counts: list[int], typed: bool, tmp_path: Path) -> None:
    table = typed_table(40, 1) if typed else pa.table({"x": range(40)})
    if typed and len(counts) > 3:
        counts = counts[:9]
    paths = write_footers(tmp_path, table, counts)
    pq.write_metadata(table.schema, tmp_path / "common")
    assert join_footers(tmp_path / "common", paths, tmp_path / "joined")
    joined_by_pyarrow(paths, tmp_path / "expected")
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "expected").read_bytes()
    assert (tmp_path / "joined").stat().st_size <= joined_size(paths) + 20


def test_footers_of_other_columns_or_metadata_are_not_joined(tmp_path: Path) -> None:
    table = pa.table({"x": range(40)})
    paths = write_footers(tmp_path, table, [1, 2])
    for other in (table.rename_columns(["y"]), table.replace_schema_metadata({"a": "b"})):
        pq.write_metadata(other.schema, tmp_path / "common")
        assert not join_footers(tmp_path / "common", paths, tmp_path / "joined")
        assert not (tmp_path / "joined").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", bytes(100), b"\x15\x00" * 50])
def test_what_is_no_footer_is_not_joined(content: bytes, tmp_path: Path) -> None:
    paths = write_footers(tmp_path, pa.table({"x": range(40)}), [1, 2])
    pq.write_metadata(pa.schema({"x": pa.int64()}), tmp_path / "common")
    paths[1].write_bytes(content)
    assert not join_footers(tmp_path / "common", paths, tmp_path / "joined")
