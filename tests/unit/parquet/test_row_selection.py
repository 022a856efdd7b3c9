"""Selected rows have all columns and their values, whichever library reads them."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.columns import schema_without_dictionaries
from margin_cache.errors import MarginCacheError
from margin_cache.parquet import partition_file, row_selection
from margin_cache.parquet.partition_file import column_groups
from margin_cache.parquet.row_selection import row_batches, select_rows
from support.partition_files import open_file
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
    # Each three times.
    table = table.append_column("index", pa.array(np.arange(ROWS) // 3))
    path = tmp_path_factory.mktemp("reading") / "table.parquet"
    pq.write_table(table, path, row_group_size=700)
    return path


@pytest.mark.parametrize(("at_once", "batch"), [(1, 70), (3000, 77), (10**9, 10**6)])
@pytest.mark.usefixtures("each_reader")
@pytest.mark.parametrize("index", ["index", None])
def test_rows_are_those_of_the_file(
    at_once: int,
    batch: int,
    index: str | None,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_selection, "COLUMNS_BYTES", at_once)
    monkeypatch.setattr(partition_file, "BATCH_ROWS", batch)
    part = open_file(path)
    schema = schema_without_dictionaries(part.file.schema_arrow)
    whole = part.file.read().replace_schema_metadata().cast(schema)
    for rows in ([0, 0, 5, 76, 77, 400, 699], [999], [3, 700], list(range(600, 900))):
        expected = whole.take(pa.array(rows))
        read = expected.select(["index", "ra", "dec"])
        found = select_rows(part, read, index, np.array(rows), schema)
        assert found.schema.equals(schema, check_metadata=True)
        for name in schema.names:
            assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_columns_read_together_are_small_or_single(path: Path) -> None:
    file = pq.ParquetFile(path)
    metadata = file.metadata.row_group(0)
    assert metadata.num_rows > ROWS / 2, "the larger one"
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
    groups = list(column_groups(open_file(path), names, 8000))
    assert [name for group in groups for name in group] == names
    assert len(groups) > 3
    for group in groups:
        assert len(group) == 1 or sum(sizes[name] for name in group) <= 8000
    for one, two in pairwise(groups):
        assert sum(sizes[name] for name in [*one, two[0]]) > 8000


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 1000])
def test_batches_of_rows_are_small_and_all_rows(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.parquet"
    numbers = np.random.default_rng(4).random((2, ROWS))
    pq.write_table(pa.table(list(numbers), names=["x", "y"]), path)
    monkeypatch.setattr(row_selection, "ROWS_BYTES", 16 * 10)
    batches = list(row_batches(open_file(path), rows))
    covered = [row for batch in batches for row in range(batch.start, batch.stop)]
    assert covered == list(range(rows))
    assert all(1 <= batch.stop - batch.start <= 10 for batch in batches)
    assert len(batches) <= rows // 8 + 1


def test_polars_reads_few_of_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, small, narrow = (tmp_path / f"{name}.parquet" for name in ("table", "small", "narrow"))
    numbers = np.random.default_rng(4).random((2, 40_000))
    table = pa.table([np.arange(40_000), *numbers], names=["index", "x", "y"])
    pq.write_table(table, path, row_group_size=30_000)
    pq.write_table(table[:30_000], small)
    twice = pa.concat_tables([table.select(["index", "x"])] * 2)
    pq.write_table(twice, narrow, row_group_size=30_000)
    monkeypatch.setattr(row_selection, "_LEAST_VALUES", 120_000)
    monkeypatch.setattr(row_selection, "_LEAST_COLUMNS", 3)
    monkeypatch.setattr(row_selection, "_IMPORT_VALUES", 200_000)
    monkeypatch.setattr(row_selection, "_values_for_polars", [])
    large_groups = tmp_path / "large_groups.parquet"
    pq.write_table(table, large_groups)
    monkeypatch.setattr(row_selection, "_MOST_ROWS", 30_000)
    asked: list[list[int]] = []

    read_rows = row_selection.read_rows

    def and_note(*arguments: object) -> object:
        asked.append(len(arguments[2]))
        return read_rows(*arguments)

    monkeypatch.setattr(row_selection, "read_rows", and_note)
    # The first file is not worth the import of Polars.
    cases = ((path, 10_000, 0), (path, 10_000, 1), (path, 10_001, 0), (small, 1, 0), (narrow, 1, 0))
    for file, count, times in (*cases, (large_groups, 1, 0), (path, 10_000, 1)):
        asked.clear()
        rows = np.arange(count)
        read = table.select(["index"])[:count]
        wanted = table.select(pq.read_schema(file).names)[:count]
        found = select_rows(open_file(file), read, "index", rows, wanted.schema)
        assert found.equals(wanted)
        assert asked == [count] * times


def test_a_file_with_damaged_codes_is_named(tmp_path: Path) -> None:
    """They are checked when values are taken, not when they are read."""
    path = tmp_path / "table.parquet"
    words = pa.array([f"w{number % 5}" for number in range(60)]).dictionary_encode()
    table = pa.table({"index": np.arange(60), "word": words})
    pq.write_table(table, path, compression="none", use_dictionary=["word"])
    schema = pa.schema([("index", pa.int64()), ("word", pa.string())])
    rows = np.arange(0, 60, 7)
    content = path.read_bytes()
    chunk = pq.read_metadata(path).row_group(0).column(1)
    end = chunk.dictionary_page_offset + chunk.total_compressed_size
    refused = 0
    for place in range(chunk.data_page_offset, end):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        index = table.select(["index"]).take(pa.array(rows))
        try:
            found = select_rows(open_file(path), index, "index", rows, schema)
        except MarginCacheError as error:
            assert str(error).startswith(f"{path}: cannot be read (")
            refused += 1
        else:
            assert len(found) == len(rows)
    assert refused > 10


def test_pyarrow_reads_what_polars_cannot(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_selection, "_are_few", lambda part, rows: True)
    monkeypatch.setattr(row_selection, "read_rows", lambda *arguments: {})
    part = open_file(path)
    schema = schema_without_dictionaries(part.file.schema_arrow)
    expected = part.file.read().replace_schema_metadata().cast(schema).take(pa.array([1, 1, 800]))
    found = select_rows(part, expected.select([]), None, np.array([1, 1, 800]), schema)
    assert found.equals(expected)


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
@pytest.mark.usefixtures("each_reader")
def test_strings_in_other_encodings_are_kept(encoding: str, tmp_path: Path) -> None:
    words = ["" if number % 5 else f"obj {number % 7}" for number in range(ROWS)]
    table = pa.table({"short": words, "null": pa.array([None] * ROWS, pa.string())})
    path = tmp_path / "table.parquet"
    names = dict.fromkeys(table.column_names, encoding)
    pq.write_table(table, path, use_dictionary=False, column_encoding=names)
    rows = [0, 5, 5, 998]
    found = select_rows(open_file(path), table.select([]), None, np.array(rows), table.schema)
    assert found.equals(table.take(pa.array(rows)))


def test_a_replaced_file_is_read_as_it_was_opened(tmp_path: Path) -> None:
    """By PyArrow. When Polars has read rows, the state of the file is compared at the end."""
    path = tmp_path / "table.parquet"
    table = pa.table({"x": np.arange(ROWS), "few": np.repeat(["a", "b"], ROWS // 2)})
    pq.write_table(table, path)
    part = open_file(path)
    pq.write_table(table.take(pa.array(np.arange(ROWS)[::-1])), tmp_path / "other.parquet")
    (tmp_path / "other.parquet").replace(path)
    found = select_rows(part, table.select([]), None, np.array([1, 998]), table.schema)
    assert found.to_pylist() == [{"x": 1, "few": "a"}, {"x": 998, "few": "b"}]


def test_a_short_column_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a column of a damaged file can be, while others are whole."""
    path = tmp_path / "table.parquet"
    table = pa.table({"x": np.arange(ROWS)})
    pq.write_table(table, path)
    monkeypatch.setattr(row_selection, "read_batches", lambda *arguments: iter(()))
    with pytest.raises(
        MarginCacheError, match=re.escape(f"{path}: cannot be read (it ends before")
    ):
        select_rows(open_file(path), table.select([]), None, np.array([3]), table.schema)
