"""Polars reads few rows as PyArrow does, or fails."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet import partition_file, row_selection
from margin_cache.parquet.row_selection import is_supported, read_rows
from support.partition_files import open_file
from support.paths import ROOT
from support.same_bits import difference

ROWS = 1000
INDEX = np.arange(ROWS) // 10
"""The spatial index: ten rows have the same."""


def table_of(**columns: object) -> pa.Table:
    return pa.table({"index": INDEX, **columns})


def written(path: Path, table: pa.Table, **options: object) -> Path:
    pq.write_table(table, path, **options)
    return path


def read(
    path: Path, rows: list[int], names: list[str], index: str | None = "index"
) -> dict[str, pa.ChunkedArray]:
    part = open_file(path)
    schema = pa.schema([part.file.schema_arrow.field(name) for name in names])
    wanted = np.array(rows)
    return read_rows(part, index and (index, INDEX[wanted]), wanted, schema)


@pytest.mark.parametrize("index", ["index", None])
@pytest.mark.parametrize("rows", [[0], [0, 1, 9, 10, 555, 999], [3, 500], list(range(ROWS))])
def test_only_selected_rows_are_read_even_if_others_have_their_index(
    rows: list[int], index: str | None, tmp_path: Path
) -> None:
    table = table_of(x=np.random.default_rng(1).random(ROWS), n=np.arange(ROWS))
    path = written(tmp_path / "table.parquet", table, row_group_size=300)
    found = read(path, rows, ["n", "x", "index"], index)
    assert list(found) == ["n", "x", "index"]
    assert pa.table(found).equals(table.select(["n", "x", "index"]).take(pa.array(rows)))


def test_payloads_of_nan_and_signs_of_zero_are_kept(tmp_path: Path) -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF0000000000007, 1 << 63, 0], np.uint64)
    values = pa.array(np.resize(bits, ROWS).view(np.float64))
    path = written(tmp_path / "table.parquet", table_of(x=values))
    found = read(path, [0, 1, 2, 3], ["x"])["x"]
    assert not difference(found, values[:4])


def test_names_of_nested_fields_are_kept(tmp_path: Path) -> None:
    kind = pa.list_(pa.field("x", pa.struct([pa.field("a", pa.float32(), nullable=False)])))
    values = pa.array([[{"a": 1.5}, None], None] * (ROWS // 2), kind)
    path = written(tmp_path / "table.parquet", table_of(c=values), use_compliant_nested_type=False)
    found = read(path, [4, 5], ["c"])["c"]
    assert pa.field("c", found.type).equals(pa.field("c", kind), check_metadata=True)
    assert found.to_pylist() == [[{"a": 1.5}, None], None]


def is_alike_in(directory: Path, field: pa.Field) -> bool:
    """Whether Polars supports the column of a file."""
    path = written(directory / "table.parquet", pa.table({field.name: [1]}))
    return is_supported(open_file(path), field)


@pytest.mark.parametrize(
    ("kind", "is_alike"),
    [
        (pa.int8(), True),
        (pa.float16(), True),
        (pa.large_string(), True),
        (pa.binary(3), True),
        (pa.decimal128(38, 5), True),
        (pa.decimal256(50, 5), False),
        (pa.timestamp("ns", "UTC"), True),
        (pa.timestamp("us", "+05:30"), False),
        (pa.time64("us"), False),
        (pa.null(), False),
        (pa.list_(pa.list_(pa.string())), True),
        (pa.list_(pa.time64("us")), False),
        (pa.list_view(pa.int8()), False),
        (pa.struct([("a", pa.int8()), ("b", pa.date32())]), True),
        (pa.struct([("a", pa.int8()), ("b", pa.date64())]), False),
        (pa.map_(pa.string(), pa.int8()), False),
        (pa.dictionary(pa.int8(), pa.string()), True),
        (pa.dictionary(pa.int8(), pa.float64()), False),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), False),
    ],
    ids=str,
)
def test_types_that_polars_may_change_are_left_to_pyarrow(
    kind: pa.DataType, is_alike: bool, tmp_path: Path
) -> None:
    assert is_alike_in(tmp_path, pa.field("x", kind)) is is_alike


@pytest.mark.parametrize("name", ["*", "^x$", "^"])
def test_names_that_are_patterns_are_left_to_pyarrow(name: str, tmp_path: Path) -> None:
    assert not is_alike_in(tmp_path, pa.field(name, pa.int8()))


@pytest.mark.parametrize("codec", ["gzip", "lz4", "none"])
def test_codecs_of_which_polars_misses_damage_are_left_to_pyarrow(
    codec: str, tmp_path: Path
) -> None:
    codecs = {"compression": {"index": codec, "x": "zstd"}}
    path = written(tmp_path / "table.parquet", table_of(x=INDEX), row_group_size=300, **codecs)
    part = open_file(path)
    assert [is_supported(part, field) for field in part.schema] == [False, True]


def test_columns_with_similar_names_are_not_confused(tmp_path: Path) -> None:
    numbers = np.arange(ROWS)
    inner = pa.StructArray.from_arrays([pa.array(-numbers)], ["ra"])
    columns = {"coord": inner, "coord.ra": numbers}
    path = written(tmp_path / "table.parquet", table_of(**columns))
    found = pa.table(read(path, [7], list(columns)))
    assert found.to_pylist() == [{"coord": {"ra": -7}, "coord.ra": 7}]


def test_rows_are_found_in_spite_of_wrong_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "table.parquet", tmp_path / "other.parquet"
    monkeypatch.setattr(row_selection, "_CHECKED_CODECS", {"UNCOMPRESSED"})
    options = {"compression": "none", "use_dictionary": False}
    written(path, table_of(), **options)
    written(other, pa.table({"index": INDEX + 5000}), **options)
    content, footer = path.read_bytes(), open_file(path).file.metadata.serialized_size + 8
    path.write_bytes(content[:-footer] + other.read_bytes()[-footer:])
    assert read(path, [4, 11], ["index"])["index"].to_pylist() == [0, 1]


def test_other_rows_than_the_selected_ones_are_a_failure(tmp_path: Path) -> None:
    """Here because the given index differs from the index in the file."""
    path = written(tmp_path / "table.parquet", table_of())
    part = open_file(path)
    index = ("index", np.array([0, 4]))
    assert read_rows(part, index, np.array([4, 55]), part.file.schema_arrow) == {}


def test_a_damaged_file_is_a_failure(tmp_path: Path) -> None:
    path = written(tmp_path / "table.parquet", table_of(x=np.random.default_rng(1).random(ROWS)))
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    path.write_bytes(content)
    assert read(path, [4], ["x"]) == {}


def test_a_file_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    path = written(tmp_path / "table.parquet", table_of(x=np.arange(ROWS)))
    part = open_file(path)
    path.unlink()
    assert read_rows(part, None, np.array([1]), pa.schema([("x", pa.int64())])) == {}


def test_a_panic_is_a_failure(tmp_path: Path) -> None:
    times = pa.array(np.arange(ROWS)).view(pa.timestamp("us", "+05:30"))
    path = written(tmp_path / "zone.parquet", table_of(x=np.arange(ROWS), t=times))
    assert read(path, [1], ["x"]) == {}


def parts(path: Path, rows: int) -> list[list[str]]:
    names = ["a", "b", "c", "d", "e"]
    part = open_file(path)
    limit = row_selection.most_bytes_together(part.sizes["index"].stored)
    return list(partition_file.column_groups(part, names, limit, rows))


def test_groups_of_columns_are_small_in_the_file_and_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1).random((5, ROWS))
    path = tmp_path / "table.parquet"
    written(path, table_of(**dict(zip("abcde", random, strict=True))), compression="none")
    assert parts(path, 10) == [["a", "b", "c", "d", "e"]]
    monkeypatch.setattr(partition_file, "_RESULT_BYTES", 2.5 * 10 * 10)
    assert parts(path, 10) == [["a", "b"], ["c", "d"], ["e"]]
    assert parts(path, 100) == [["a"], ["b"], ["c"], ["d"], ["e"]]
    monkeypatch.undo()
    # A column takes 8 bytes a row and its dictionary's codes, the index a tenth of it.
    monkeypatch.setattr(row_selection, "_LEAST_BYTES", 3 * 11 * ROWS)
    assert parts(path, 1) == [["a", "b", "c"], ["d", "e"]]
    monkeypatch.setattr(row_selection, "_MOST_BYTES", 11 * ROWS)
    assert parts(path, 1) == [["a"], ["b"], ["c"], ["d"], ["e"]]


READ = """
import sys
import numpy as np, pyarrow as pa
sys.path[:0] = sys.argv[1:3]
from margin_cache.parquet import row_selection
from support.partition_files import open_file
from pathlib import Path
from typing import Any
assert "polars" not in sys.modules
part = open_file(Path(sys.argv[3]))
schema = pa.schema([("x", pa.float64())])
found = row_selection.read_rows(part, None, np.array([5]), schema)
import polars
print(polars.thread_pool_size(), found["x"][0])
"""


def test_polars_has_one_thread(tmp_path: Path) -> None:
    """Regardless of the environment; and Polars is imported only when rows are read."""
    path = written(tmp_path / "table.parquet", table_of(x=np.arange(ROWS) / 2))
    command = [sys.executable, "-c", READ, ROOT / "scripts", ROOT / "tests", path]
    done = subprocess.run(
        command,
        env={**os.environ, "POLARS_MAX_THREADS": "7"},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == ["1", "2.5"]


KEPT = """
import os, sys
import numpy as np, pyarrow as pa
sys.path[:0] = sys.argv[1:3]
from margin_cache.parquet import row_selection
from support.partition_files import open_file
from pathlib import Path
from typing import Any
part = open_file(Path(sys.argv[3]))
schema = pa.schema([("x", pa.float64())])
row_selection.read_rows(part, None, np.array([5]), schema)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
blocks = [pa.array(np.arange(1 << 17)).cast(pa.float64()) for _ in range(64)]
del blocks
before = resident()
row_selection.read_rows(part, None, np.array([5]), schema)
print(before - resident(), os.environ["_RJEM_MALLOC_CONF"])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_polars_and_pyarrow_keep_little_memory_for_later(tmp_path: Path) -> None:
    """PyArrow returns most of 64 MB to the system; the allocator of Polars has one arena."""
    path = written(tmp_path / "table.parquet", table_of(x=np.arange(ROWS) / 2))
    done = subprocess.run(
        [sys.executable, "-c", KEPT, ROOT / "scripts", ROOT / "tests", path],
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "mimalloc", "_RJEM_MALLOC_CONF": ""},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    given_back, settings = done.stdout.split()
    assert int(given_back) > 30e6
    assert "narenas:1" in settings.split(",")
