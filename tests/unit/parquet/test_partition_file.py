"""Files of a partition are opened in order, if they have their planned state."""

import gc
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.columns import cast_column, schema_without_dictionaries
from margin_cache.catalog.model import CatalogInfo, Partition
from margin_cache.catalog.partitions import partition_files, state_of
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from margin_cache.parquet.partition_file import open_files
from margin_cache.parquet.row_selection import select_rows
from margin_cache.storage.catalog_files import open_parquet
from pyarrow.dataset import dataset
from support.catalog_infos import HATS

PIXEL = Pixel(1, 5)
TABLE = pa.table({"ra": np.arange(5.0), "dec": np.arange(5.0)})


def catalog_of(directory: Path, names: list[str]) -> CatalogInfo:
    """A catalog whose only partition is a directory of files."""
    info = replace(HATS, path=str(directory), npix_suffix="/")
    path = Path(info.path, info.dataset) / "Norder=1/Dir=0/Npix=5"
    path.mkdir(parents=True)
    for name in names:
        pq.write_table(TABLE, path / name)
    return info


def partition_of(info: CatalogInfo) -> Partition:
    return Partition(PIXEL, state_of(info, partition_files(info, PIXEL)))


def test_files_of_a_partition_are_opened_in_order(tmp_path: Path) -> None:
    names = ["b.parquet", "a.parquet", "c.parquet"]
    info = catalog_of(tmp_path, names)
    found = list(open_files(info, partition_of(info), TABLE.schema))
    assert [part.local_path.name for part in found] == sorted(names)
    assert all(part.bytes_on_disk == 0 for part in found)


def test_a_file_that_was_replaced_is_read_as_it_was_opened(tmp_path: Path) -> None:
    info = catalog_of(tmp_path, ["a.parquet"])
    (part,) = open_files(info, partition_of(info), TABLE.schema)
    part.local_path.unlink()
    pq.write_table(TABLE.slice(2), part.path)
    assert part.file.read().num_rows == 5


def test_another_state_or_schema_is_refused(tmp_path: Path) -> None:
    info = catalog_of(tmp_path, ["a.parquet"])
    planned = partition_of(info)
    with pytest.raises(MarginCacheError, match="lacks the column more"):
        list(open_files(info, planned, TABLE.schema.append(pa.field("more", pa.int8()))))
    pq.write_table(
        TABLE.slice(2), Path(info.path, info.dataset) / "Norder=1/Dir=0/Npix=5/b.parquet"
    )
    with pytest.raises(MarginCacheError, match="was changed after the run began"):
        list(open_files(info, planned, TABLE.schema))


def test_downloads_are_deleted_with_the_last_reader(tmp_path: Path) -> None:
    info = catalog_of(tmp_path, ["a.parquet"])
    closed: list[Path] = []

    class Remote:
        bytes_on_disk = 7

        def __init__(self, path: Path) -> None:
            self.path, self.parquet = path, open_parquet(path)

        def close(self) -> None:
            closed.append(self.path)

    class Reader:
        def open(self, path: str) -> Remote:
            return Remote(Path(info.path, path))

    reader: Any = Reader()
    parts = list(open_files(info, partition_of(info), TABLE.schema, reader))
    assert [part.bytes_on_disk for part in parts] == [7] and closed == []
    path = parts[0].local_path
    parts.clear()
    gc.collect()
    assert closed == [path]


def read_as_planned(directory: Path, file: pa.Table, schema: pa.Schema) -> pa.Table:
    """All rows of a catalog whose only file has other types, with the types of its schema."""
    info = catalog_of(directory, [])
    path = Path(info.path, info.dataset) / "Norder=1/Dir=0/Npix=5/a.parquet"
    pq.write_table(file, path)
    (part,) = open_files(info, partition_of(info), schema)
    fields = [(part.catalog_schema or part.schema).field(name) for name in ("ra", "dec")]
    positions = pa.table({f.name: cast_column(file[f.name], f, part.path) for f in fields})
    rows = np.arange(file.num_rows)
    return select_rows(part, positions, None, rows, schema_without_dictionaries(schema))


def column(arrow_type: pa.DataType, *values: Any) -> pa.Array:
    return pa.array([*values, None], arrow_type)


DAY = date(2020, 2, 3)

KEPT = [
    (column(pa.string(), "a"), pa.large_string()),
    (column(pa.large_string(), "a"), pa.string()),
    (column(pa.string(), "a"), pa.string_view()),
    (column(pa.string(), "a", "b").dictionary_encode(), pa.large_string()),
    (column(pa.string(), "a"), pa.dictionary(pa.int8(), pa.string())),
    (column(pa.binary(), b"a"), pa.string()),
    (column(pa.binary(2), b"ab"), pa.large_binary()),
    (pa.nulls(2), pa.string()),
    (pa.nulls(2), pa.list_(pa.struct([("a", pa.float64())]))),
    (pa.nulls(2), pa.dictionary(pa.int8(), pa.string())),
    (pa.nulls(2), pa.decimal128(9, 2)),
    (column(pa.int16(), -5), pa.int64()),
    (column(pa.int64(), 5), pa.uint8()),
    (column(pa.int64(), 1 << 53), pa.float64()),
    (column(pa.float64(), 5.0), pa.int16()),
    (column(pa.float32(), 0.1, np.nan), pa.float64()),
    (column(pa.timestamp("ms"), datetime(2020, 2, 3)), pa.timestamp("ns")),
    (column(pa.timestamp("us", "UTC"), datetime(2020, 2, 3)), pa.timestamp("ms", "UTC")),
    (column(pa.date32(), DAY), pa.date64()),
    (column(pa.decimal128(5, 2), Decimal("1.25")), pa.decimal128(9, 3)),
    (column(pa.list_(pa.float32()), [0.5], []), pa.large_list(pa.float64())),
    (column(pa.large_list(pa.string()), ["a", None]), pa.list_(pa.large_string())),
    (column(pa.list_(pa.int8(), 2), [1, 2]), pa.list_(pa.int64())),
    (column(pa.list_(pa.null()), [None, None]), pa.list_(pa.string())),
    (
        column(pa.struct([("a", pa.int8()), ("b", pa.string())]), {"a": 1, "b": "x"}),
        pa.struct([("b", pa.large_string()), ("a", pa.int64())]),
    ),
    (column(pa.map_(pa.string(), pa.int8()), [("a", 1)]), pa.map_(pa.large_string(), pa.int64())),
]

LOST = [
    (column(pa.int64(), 1 << 40), pa.int32()),
    (column(pa.int8(), -1), pa.uint64()),
    (column(pa.int64(), (1 << 53) + 1), pa.float64()),
    (column(pa.float64(), 1.5), pa.int64()),
    (column(pa.float64(), np.nan), pa.int64()),
    (column(pa.timestamp("us"), datetime(2020, 2, 3, 0, 0, 0, 7)), pa.timestamp("ms")),
    (column(pa.timestamp("ms"), datetime(9999, 2, 3)), pa.timestamp("ns")),
    (column(pa.decimal128(5, 2), Decimal("1.25")), pa.decimal128(9, 1)),
    (column(pa.binary(), b"\xff"), pa.string()),
    (column(pa.list_(pa.int64()), [1 << 40]), pa.list_(pa.int32())),
    (column(pa.list_(pa.int8()), [1]), pa.list_(pa.int8(), 2)),
]


def typed(values: pa.Array) -> pa.Table:
    count = len(values)
    return pa.table(
        {"ra": np.arange(count, dtype="f4"), "dec": np.arange(1.0 * count), "x": values}
    )


@pytest.mark.usefixtures("each_reader")
@pytest.mark.parametrize(
    ("values", "expected"), KEPT, ids=lambda value: str(getattr(value, "type", value))
)
def test_columns_of_other_types_are_read_as_lsdb_reads_them(
    values: pa.Array,
    expected: pa.DataType,
    tmp_path: Path,
) -> None:
    """LSDB reads each file as a dataset with the schema of the catalog."""
    file = typed(values)
    schema = pa.schema(
        [("Npix", pa.int32()), ("x", expected), ("dec", pa.float64()), ("ra", pa.float64())]
    )
    found = read_as_planned(tmp_path, file, schema)
    assert found.schema.equals(schema_without_dictionaries(schema))
    read = dataset(tmp_path / "dataset", schema=schema, partitioning=None).to_table()
    for name in schema.names:
        np.testing.assert_equal(found[name].to_pylist(), read[name].to_pylist())


@pytest.mark.usefixtures("each_reader")
@pytest.mark.parametrize(
    ("values", "expected"), LOST, ids=lambda value: str(getattr(value, "type", value))
)
def test_a_value_that_the_catalogs_type_does_not_hold_is_named(
    values: pa.Array,
    expected: pa.DataType,
    tmp_path: Path,
) -> None:
    file = typed(values)
    schema = file.schema.set(2, pa.field("x", expected))
    said = r"a.parquet: the column x has the type .* catalog's type .* cannot hold \("
    with pytest.raises(MarginCacheError, match=said):
        read_as_planned(tmp_path, file, schema)
