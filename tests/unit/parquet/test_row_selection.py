"""Rows are taken with all columns and as they are, however they are read."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.columns import schema_without_dictionaries
from margin_cache.errors import MarginCacheError
from margin_cache.parquet import positions, row_selection
from margin_cache.parquet.row_selection import select_rows
from support.row_groups import group_of
from support.typed_tables import typed_table

ROWS = 1000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with columns of all types, and of names that look like paths of nested columns.

    The coordinates stand behind others.
    """
    table = typed_table(ROWS, 3)
    table = table.select(table.column_names[::-1])
    words = pa.array([f"row {number % 7}" for number in range(ROWS)])
    views = pa.array([f"row {number}" for number in range(ROWS)], pa.string_view())
    table = table.append_column("view", views)
    table = table.append_column("dictionary", words.dictionary_encode())
    numbers = pa.array(np.arange(ROWS))
    struct = pa.StructArray.from_arrays([numbers, numbers], ["b", "c.d"])
    table = table.append_column("a", struct).append_column("a.x", numbers)
    table = table.append_column("list.element", numbers)
    path = tmp_path_factory.mktemp("reading") / "table.parquet"
    pq.write_table(table, path, row_group_size=700)
    return path


@pytest.mark.parametrize("at_once", [1, 3000, 10**9])
@pytest.mark.parametrize("batch", [1, 77, 10**6])
@pytest.mark.parametrize("from_pages", [True, False])
def test_rows_are_those_of_the_file(
    at_once: int, batch: int, from_pages: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_selection, "_are_few", lambda group, rows: from_pages)
    monkeypatch.setattr(row_selection, "COLUMNS_BYTES", at_once)
    monkeypatch.setattr(positions, "BATCH_ROWS", batch)
    file = pq.ParquetFile(path)
    schema = schema_without_dictionaries(file.schema_arrow)
    for number, rows in ((0, [0, 0, 5, 76, 77, 400, 699]), (1, [299]), (1, list(range(300)))):
        group = group_of(path, number)
        whole = file.read_row_group(number).replace_schema_metadata().cast(schema)
        expected = whole.take(pa.array(rows))
        read = expected.select(["ra", "dec"])
        found = select_rows(group, read, np.array(rows), schema, 1)
        assert found.schema.equals(schema)
        for name in schema.names:
            assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_columns_that_are_read_at_once_are_small_or_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_selection, "COLUMNS_BYTES", 8000)
    file = pq.ParquetFile(path)
    metadata = file.metadata.row_group(0)
    sizes: dict[str, int] = {}
    for number, column in enumerate(metadata.column(n) for n in range(metadata.num_columns)):
        # The file's own schema tells which column of the table a part belongs to.
        top = next(
            name
            for name in sorted(file.schema_arrow.names, key=len, reverse=True)
            if (file.schema.column(number).path + ".").startswith(name + ".")
        )
        sizes[top] = sizes.get(top, 0) + column.total_compressed_size
    names = file.schema_arrow.names
    parts = row_selection._column_groups(group_of(path), file.schema_arrow)
    groups = [part.names for part in parts]
    assert [name for group in groups for name in group] == names
    assert len(groups) > 3
    for group in groups:
        assert len(group) == 1 or sum(sizes[name] for name in group) <= 8000
    for one, two in pairwise(groups):
        assert sum(sizes[name] for name in [*one, two[0]]) > 8000


def test_strings_are_read_as_codes_where_they_are_few(tmp_path: Path) -> None:
    words = [None if number % 11 == 0 else f"word {number % 7}" for number in range(ROWS)]
    table = pa.table(
        {
            "few": words,
            "few_and_large": pa.array(words, pa.large_string()),
            "many": [f"word {number}" for number in range(ROWS)],
            "number": np.arange(ROWS) % 7,
            "nested": pa.array([[word] for word in words]),
        }
    )
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    file = pq.ParquetFile(path)
    group = group_of(path)
    assert row_selection._dictionary_columns(group, file.schema_arrow) == ["few", "few_and_large"]
    rows = [0, 3, 3, 11, 999]
    found = select_rows(group, table.select([]), np.array(rows), table.schema, 1)
    assert found.equals(table.take(pa.array(rows)))
    kinds = row_selection._open_with_dictionaries(group, ["few"]).schema_arrow
    assert [field.name for field in kinds if pa.types.is_dictionary(field.type)] == ["few"]


def test_pages_are_looked_into_for_few_of_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one thread; several decode columns side by side with PyArrow."""
    path = tmp_path / "table.parquet"
    numbers = np.random.default_rng(4).random(40_000)
    pq.write_table(pa.table({"x": numbers}), path, row_group_size=30_000)
    file = pq.ParquetFile(path)
    large, small = (group_of(path, number) for number in (0, 1))
    assert row_selection._are_few(large, np.arange(3000))
    assert not row_selection._are_few(large, np.arange(4000))
    assert not row_selection._are_few(small, np.arange(1))
    rows = np.arange(0, 30_000, 77)
    found = row_selection._select_from_pages(large, file.schema_arrow, rows)
    np.testing.assert_array_equal(found["x"], numbers[rows])
    looked_into = []
    monkeypatch.setattr(
        row_selection, "_select_from_pages", lambda *arguments: looked_into.append(arguments) or {}
    )
    nothing = pa.table({})
    for threads, times in ((2, 0), (1, 1)):
        found = select_rows(large, nothing, rows, file.schema_arrow, threads)
        np.testing.assert_array_equal(found["x"], numbers[rows])
        assert len(looked_into) == times


def test_a_column_in_another_is_not_taken_for_one_with_a_dot_in_its_name(tmp_path: Path) -> None:
    numbers = np.random.default_rng(8).random(ROWS)
    inner = pa.StructArray.from_arrays(
        [pa.array(numbers)], fields=[pa.field("y", pa.float64(), nullable=False)]
    )
    schema = pa.schema(
        [
            pa.field("x.y", pa.float64(), nullable=False),
            pa.field("x", inner.type, nullable=False),
            pa.field("z", pa.float64()),
        ]
    )
    table = pa.table([pa.array(-numbers), inner, pa.array(numbers)], schema=schema)
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    group = group_of(path)
    assert list(row_selection._select_from_pages(group, schema, np.array([1]))) == ["z"]


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_strings_in_other_encodings_are_read_as_they_are(encoding: str, tmp_path: Path) -> None:
    words = ["" if number % 5 else f"obj {number % 7}" for number in range(ROWS)]
    table = pa.table({"short": words, "null": pa.array([None] * ROWS, pa.string())})
    path = tmp_path / "table.parquet"
    names = dict.fromkeys(table.column_names, encoding)
    pq.write_table(table, path, use_dictionary=False, column_encoding=names)
    rows = [0, 5, 5, 998]
    found = select_rows(group_of(path), table.select([]), np.array(rows), table.schema, 1)
    assert found.equals(table.take(pa.array(rows)))


@pytest.mark.parametrize("from_pages", [True, False])
def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(
    from_pages: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_selection, "_are_few", lambda group, rows: from_pages)
    path = tmp_path / "table.parquet"
    table = pa.table({"x": np.arange(ROWS), "few": np.repeat(["a", "b"], ROWS // 2)})
    pq.write_table(table, path)
    group = group_of(path)
    pq.write_table(table.take(pa.array(np.arange(ROWS)[::-1])), tmp_path / "other.parquet")
    (tmp_path / "other.parquet").replace(path)
    found = select_rows(group, table.select([]), np.array([1, 998]), table.schema, 1)
    assert found.to_pylist() == [{"x": 1, "few": "a"}, {"x": 998, "few": "b"}]


@pytest.mark.parametrize("nested", [False, True])
def test_timestamps_of_int96_are_as_they_are_read_or_refused(nested: bool, tmp_path: Path) -> None:
    """Of those beyond the range of nanoseconds PyArrow makes others."""
    kind = pa.list_(pa.timestamp("us")) if nested else pa.timestamp("us")
    times = [datetime(2020, 1, 1, 1, 2, 3, 456_789), None, datetime(1000, 1, 1), datetime.max]
    table = pa.table({"t": pa.array([[time] if nested else time for time in times], kind)})
    path = tmp_path / "table.parquet"
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    schema = pq.ParquetFile(path).schema_arrow
    found = select_rows(group_of(path), table.select([]), np.array([0, 0, 1]), schema, 1)
    assert found.cast(table.schema).equals(table.take(pa.array([0, 0, 1])))
    for row in (2, 3):
        said = f"{path}: the column t has timestamps of type INT96 beyond the years 1678 to 2261"
        with pytest.raises(MarginCacheError, match=said):
            select_rows(group_of(path), table.select([]), np.array([0, row]), schema, 1)


def test_strings_that_are_codes_in_part_and_deltas_in_part_are_read_as_they_are() -> None:
    """As writers in Rust store them; PyArrow reads but does not write them."""

    def coded_columns(*encodings: str) -> list[str]:
        column = SimpleNamespace(
            physical_type="BYTE_ARRAY",
            path_in_schema="s",
            encodings=encodings,
            total_uncompressed_size=10,
            num_values=1000,
        )
        row_group = SimpleNamespace(num_columns=1, column=lambda number: column)
        metadata = SimpleNamespace(row_group=lambda number: row_group)
        group = SimpleNamespace(number=0, file=SimpleNamespace(metadata=metadata))
        return row_selection._dictionary_columns(group, pa.schema([("s", pa.string())]))

    assert coded_columns("PLAIN", "RLE", "RLE_DICTIONARY") == ["s"]
    assert coded_columns("PLAIN", "RLE", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY") == []
    assert coded_columns("PLAIN", "RLE") == []
