"""Rows of random files, by Polars and by PyArrow, are those of the whole file, bit by bit.

``RANDOM_FILES=5000`` tries so many files, and prints counts by writer: without ``-n``, since
pytest-xdist does not pass on what its workers print.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.columns import schema_without_dictionaries
from margin_cache.parquet import row_selection
from margin_cache.parquet.row_selection import select_rows
from support.partition_files import open_file
from support.random_files import INDEX, WRITERS, random_table
from support.same_bits import difference

FILES = int(os.environ.get("RANDOM_FILES", "60"))
SEED = int(os.environ.get("RANDOM_FILES_SEED", "1"))

COUNTED = (
    "files",
    "columns",
    "values",
    "columns by Polars",
    "files that Polars refuses",
)


@pytest.fixture(scope="module")
def counts(pytestconfig: pytest.Config) -> Iterator[dict[str, Counter[str]]]:
    """The tested cases by writer; printed at the end of a long run."""
    counted: dict[str, Counter[str]] = {writer: Counter() for writer in WRITERS}
    yield counted
    if "RANDOM_FILES" in os.environ:
        # pytest keeps to itself what a test that has passed prints.
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(table_of({writer: count for writer, count in counted.items() if count}))


def table_of(counted: dict[str, Counter[str]]) -> str:
    """The tested cases, as a table in Markdown."""
    lines = [f"\n| writer | {' | '.join(COUNTED)} |", f"|---|{'---:|' * len(COUNTED)}"]
    for writer, count in counted.items():
        lines.append(f"| {writer} | {' | '.join(f'{count[what]:,}' for what in COUNTED)} |")
    return "\n".join(lines)


def written(path: Path, writer: str, rng: np.random.Generator) -> pa.Table:
    """Write a file; return it as PyArrow reads it, or what of it PyArrow reads."""
    while True:
        try:
            WRITERS[writer](path, random_table(rng), rng)
            return pq.ParquetFile(path).read()
        except Exception:
            # Not all writers know all types, and some write what PyArrow does not read.
            continue


def as_it_is_read(whole: pa.Table, schema: pa.Schema) -> pa.Table:
    """A file as a whole, with the types of shards."""
    columns = [
        whole[field.name]
        if whole[field.name].type == field.type
        else whole[field.name].cast(field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


@pytest.mark.parametrize("writer", WRITERS)
def test_no_bit_differs(
    writer: str,
    counts: dict[str, Counter[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = counts[writer]
    read_rows = row_selection.read_rows

    def and_count(*arguments: object) -> object:
        count["files that Polars refuses"] += 1
        found = read_rows(*arguments)
        count["files that Polars refuses"] -= 1
        count["columns by Polars"] += len(found)
        return found

    monkeypatch.setattr(row_selection, "read_rows", and_count)
    for case in range(FILES // len(WRITERS)):
        rng = np.random.default_rng([SEED, case])
        path = tmp_path / f"{case}.parquet"
        whole = written(path, writer, rng)
        rows = np.sort(rng.integers(0, whole.num_rows, rng.integers(1, 40)))
        schema = schema_without_dictionaries(whole.schema)
        expected = as_it_is_read(whole, schema).take(pa.array(rows))
        index = INDEX if rng.random() < 0.8 else None
        read = expected.select([INDEX] if index else [])
        for by_polars in (True, False):
            monkeypatch.setattr(row_selection, "_are_few", lambda part, rows, by=by_polars: by)
            found = select_rows(open_file(path), read, index, rows, schema)
            assert found.schema.equals(schema, check_metadata=True)
            for name in schema.names:
                said = difference(found[name], expected[name])
                assert not said, f"case {case}, {name}, by Polars: {by_polars}: {said}"
        count["files"] += 1
        count["columns"] += len(schema)
        count["values"] += len(schema) * len(rows)
        path.unlink()
    assert count["files"] and count["columns by Polars"] > count["files"] / 4
    assert count["files that Polars refuses"] < count["files"] / 2
