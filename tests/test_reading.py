"""Rows are read with all columns and as they are, whatever is read at once."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skies
from margin_cache import reading
from margin_cache.mapping import plain_schema
from margin_cache.reading import RowGroup, take_rows

ROWS = 1000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with columns of all types, and of names that look like paths of nested columns.

    The coordinates stand behind others.
    """
    table = skies.typed_table(ROWS, 3)
    table = table.select(table.column_names[::-1])
    words = pa.array([f"row {number % 7}" for number in range(ROWS)])
    table = table.append_column("view", words.cast(pa.string_view()))
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
def test_rows_are_those_of_the_file(
    at_once: int, batch: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "COLUMNS_BYTES", at_once)
    monkeypatch.setattr(reading, "BATCH_ROWS", batch)
    file = pq.ParquetFile(path)
    schema = plain_schema(file.schema_arrow)
    for number, rows in ((0, [0, 0, 5, 76, 77, 400, 699]), (1, [299]), (1, list(range(300)))):
        group = RowGroup(partition=0, path=path, file=file, number=number)
        whole = file.read_row_group(number).replace_schema_metadata().cast(schema)
        expected = whole.take(pa.array(rows))
        positions = expected.select(["ra", "dec"])
        found = take_rows(group, positions, np.array(rows), schema)
        assert found.schema.equals(schema)
        for name in schema.names:
            assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_columns_that_are_read_at_once_are_small_or_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "COLUMNS_BYTES", 8000)
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
    groups = reading._column_groups(RowGroup(0, path, file, 0), names)
    assert [name for group in groups for name in group] == names
    assert len(groups) > 3
    for group in groups:
        assert len(group) == 1 or sum(sizes[name] for name in group) <= 8000
    for one, two in pairwise(groups):
        assert sum(sizes[name] for name in [*one, two[0]]) > 8000
