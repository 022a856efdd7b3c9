"""Types that Arrow does not know are told apart, and those that PyArrow does not write named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.parquet_types import check_types, has_utc_times, int96_columns
from margin_cache.errors import MarginCacheError
from support.changed_catalogs import declare_interval
from support.typed_tables import typed_table

PATH = Path("a.parquet")


def test_an_interval_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    pq.write_table(pa.table({"a": [1], "span": pa.array([bytes(12)], pa.binary(12))}), path)
    check_types(pq.ParquetFile(path).schema, PATH)
    declare_interval(path, "span")
    said = "a.parquet: the column span has the Parquet type INTERVAL, which PyArrow does not write"
    with pytest.raises(MarginCacheError, match=said):
        check_types(pq.ParquetFile(path).schema, PATH)


@pytest.mark.parametrize("in_utc", [True, False])
def test_times_of_day_are_in_utc_or_not(in_utc: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    pq.write_table(typed_table(10, 1), path, write_time_adjusted_to_utc=in_utc)
    assert has_utc_times(pq.ParquetFile(path).schema, PATH) == in_utc
    check_types(pq.ParquetFile(path).schema, PATH)


def test_times_of_day_of_both_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    pq.write_table(
        pa.table({"a": pa.array([1], pa.time64("us")), "b": pa.array([1], pa.time64("us"))}),
        path,
        write_time_adjusted_to_utc=True,
        store_schema=False,
    )
    content = path.read_bytes()
    # The logical type of a time: a boolean, true or false, and the unit.
    at = content.rindex(b"\x7c\x11\x1c\x2c")
    path.write_bytes(content[: at + 1] + b"\x12" + content[at + 2 :])
    with pytest.raises(MarginCacheError, match="column a has times of day in UTC, and b others"):
        has_utc_times(pq.ParquetFile(path).schema, PATH)


def test_columns_of_int96_are_found_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "file"
    times = pa.array([1], pa.timestamp("us"))
    table = pa.table(
        {"a": [1], "a.b": times, "c": pa.array([[1]], pa.list_(pa.timestamp("us"))), "d": [2]}
    )
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert int96_columns(pq.ParquetFile(path)) == ["a", "a.b", "c"]
    pq.write_table(table, path)
    assert int96_columns(pq.ParquetFile(path)) == []
