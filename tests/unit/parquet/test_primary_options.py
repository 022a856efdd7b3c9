"""Footers tell how a catalog's files are written, whoever wrote them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import read_partitions
from margin_cache.parquet.primary_options import (
    HATS_GROUP_ROWS,
    HATS_LEVEL,
    HATS_PAGE_BYTES,
    PYARROW_GROUP_ROWS,
    ColumnOptions,
    PrimaryOptions,
    leaf_columns,
    read_primary_options,
)
from support.catalog_infos import HATS, write_partition
from support.hats_options import hats_options

RNG = np.random.default_rng(1)
ROWS = 200
TABLE = pa.table(
    {
        "_healpix_29": np.arange(ROWS),
        "ra": RNG.uniform(0, 360, ROWS),
        "dec": RNG.uniform(-90, 90, ROWS),
        "rounded": np.round(RNG.normal(size=ROWS)),
        "word": ["a", None] * (ROWS // 2),
        "curve": [[1.5, 2.5], None] * (ROWS // 2),
    }
)
CURVE = "curve.list.element"


@pytest.fixture
def info(tmp_path: Path) -> CatalogInfo:
    return replace(HATS, path=str(tmp_path), index_column="_healpix_29")


def options_of(info: CatalogInfo, *tables: pa.Table, **options: Any) -> PrimaryOptions:
    """Options of a catalog whose partitions are tables written with some options."""
    for pixel, table in enumerate(tables):
        path = write_partition(info, 1, pixel, table, "" if info.npix_suffix != "/" else "part")
        pq.write_table(table, path, **options)
    return read_primary_options(info, read_partitions(info))


def test_files_of_hats_are_recognized(info: CatalogInfo) -> None:
    wanted = hats_options(TABLE.schema)
    found = options_of(info, TABLE, **wanted)
    assert found.compression == wanted["compression"]
    assert found.compression_level == wanted["compression_level"] == HATS_LEVEL
    assert found.page_bytes == wanted["data_page_size"] == HATS_PAGE_BYTES
    assert wanted["dictionary_pagesize_limit"] == HATS_PAGE_BYTES
    assert found.row_group_rows == wanted["row_group_size"] == HATS_GROUP_ROWS
    assert found.page_index
    assert {path: c.encoding for path, c in found.columns.items() if c.encoding} == wanted[
        "column_encoding"
    ]
    assert [path for path, c in found.columns.items() if c.dictionary] == wanted["use_dictionary"]


def test_the_defaults_of_pyarrow_are_recognized(info: CatalogInfo) -> None:
    found = options_of(info, TABLE)
    assert found.row_group_rows == PYARROW_GROUP_ROWS
    columns = {path: ColumnOptions() for path, _ in leaf_columns(TABLE.schema)}
    for path in ("ra", "dec"):  # of which dictionaries are larger than the values
        columns[path] = ColumnOptions(dictionary=False)
    assert found == PrimaryOptions(columns=columns)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compression": "gzip"}, {"compression": "gzip"}),
        ({"compression": "none"}, {"compression": "none"}),
        ({"compression": "zstd"}, {"compression": "zstd", "compression_level": None}),
        ({"write_page_index": True}, {"page_index": True, "page_bytes": None}),
        ({"row_group_size": 90}, {"row_group_rows": 90}),
    ],
)
def test_other_options_are_found_in_footers(
    options: dict[str, Any], expected: dict[str, Any], info: CatalogInfo
) -> None:
    found = options_of(info, TABLE, **options)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "path", "expected"),
    [
        ({"use_dictionary": False}, "word", ColumnOptions(dictionary=False)),
        ({"write_statistics": ["ra"]}, "word", ColumnOptions(statistics=False)),
        ({"use_dictionary": ["ra"]}, "rounded", ColumnOptions(dictionary=False)),
        (
            {"use_dictionary": False, "column_encoding": {"word": "DELTA_BYTE_ARRAY"}},
            "word",
            ColumnOptions(dictionary=False, encoding="DELTA_BYTE_ARRAY"),
        ),
        (
            {"use_dictionary": False, "column_encoding": {CURVE: "BYTE_STREAM_SPLIT"}},
            CURVE,
            ColumnOptions(dictionary=False, encoding="BYTE_STREAM_SPLIT"),
        ),
        (
            {
                "use_dictionary": False,
                "use_compliant_nested_type": False,
                "column_encoding": {"curve.list.item": "BYTE_STREAM_SPLIT"},
            },
            CURVE,
            ColumnOptions(dictionary=False, encoding="BYTE_STREAM_SPLIT"),
        ),
    ],
)
def test_each_column_has_options_of_its_own(
    options: dict[str, Any], path: str, expected: ColumnOptions, info: CatalogInfo
) -> None:
    table = TABLE
    if "use_compliant_nested_type" in options:
        items = TABLE["curve"].cast(pa.list_(pa.field("item", pa.float64())))
        table = TABLE.set_column(5, "curve", items)
    assert options_of(info, table, **options).columns[path] == expected


def test_sizes_of_unequal_row_groups_are_rounded_to_a_power_of_two(info: CatalogInfo) -> None:
    path = write_partition(info, 1, 0, TABLE)
    with pq.ParquetWriter(path, TABLE.schema) as writer:
        for start, stop in ((0, 70), (70, 110), (110, 200)):
            writer.write_table(TABLE.slice(start, stop - start))
    assert read_primary_options(info, read_partitions(info)).row_group_rows == 128


def test_files_without_rows_do_not_decide(info: CatalogInfo) -> None:
    found = options_of(info, TABLE.slice(0, 0), TABLE, compression="gzip")
    assert found.compression == "gzip"
    assert options_of(info, TABLE.slice(0, 0), TABLE.slice(0, 0)) == PrimaryOptions()


def test_a_partition_of_few_rows_does_not_decide_alone(info: CatalogInfo) -> None:
    found = options_of(info, TABLE.slice(0, 1), TABLE)
    assert found.columns["rounded"].dictionary and not found.columns["ra"].dictionary


def test_no_more_files_are_opened_than_needed(
    info: CatalogInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("margin_cache.parquet.primary_options.MOST_FILES", 2)
    options_of(info, TABLE, TABLE, TABLE)
    partitions = read_partitions(info)
    (*_, last) = sorted(Path(info.path).rglob("Npix=*.parquet"))
    last.write_bytes(b"")
    assert read_primary_options(info, partitions).compression == "snappy"
