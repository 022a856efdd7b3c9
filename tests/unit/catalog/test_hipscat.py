"""HiPSCat: descriptions are read, and margins are described as hipscat expects."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from margin_cache.catalog import hipscat
from margin_cache.catalog.model import CatalogInfo, MarginSummary
from margin_cache.errors import MarginCacheError
from margin_cache.storage.catalog_files import CatalogFiles
from support.catalog_infos import HIPSCAT

SOURCE = Path("sky/_common_metadata")

INFO = {
    "catalog_name": "stars",
    "catalog_type": "object",
    "epoch": "J1991.25",
    "ra_column": "RA",
    "dec_column": "DE",
}


def read(directory: Path, content: Any) -> CatalogInfo:
    text = content if isinstance(content, str) else json.dumps(content)
    (directory / "catalog_info.json").write_text(text, encoding="utf-8")
    return hipscat.read_info(CatalogFiles(str(directory)))


@pytest.mark.parametrize("kind", ["object", "source"])
def test_a_catalog_is_read_with_the_index_of_hipscat(kind: str, tmp_path: Path) -> None:
    found = read(tmp_path, {**INFO, "catalog_type": kind, "more": 1})
    assert found == CatalogInfo(
        format="hipscat",
        path=str(tmp_path),
        name="stars",
        epoch="J1991.25",
        ra_column="RA",
        dec_column="DE",
        index_column="_hipscat_index",
        index_order=19,
        index_shift=22,
        dataset="",
        npix_suffix=".parquet",
    )


def test_the_epoch_is_optional(tmp_path: Path) -> None:
    assert read(tmp_path, {key: INFO[key] for key in INFO if key != "epoch"}).epoch is None


@pytest.mark.parametrize("kind", ["margin", "association", "index"])
def test_a_catalog_of_another_type_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match=f"is a catalog of type {kind}. Margins are made"):
        read(tmp_path, {**INFO, "catalog_type": kind})


@pytest.mark.parametrize("content", ["", "{", "[]", "null", {}, {"catalog_type": "object"}])
def test_a_damaged_info_is_named(content: Any, tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match=r"its catalog_info\.json is damaged, or does"):
        read(tmp_path, content)


@pytest.mark.parametrize("key", ["catalog_type", "catalog_name", "ra_column", "dec_column"])
@pytest.mark.parametrize("value", [None, "", 3])
def test_a_key_that_is_not_text_is_named(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match=f"does not give {key} as text"):
        read(tmp_path, {**INFO, key: value})


# --- margins --------------------------------------------------------------------------------


def frame_schema(index: str | None) -> pa.Schema:
    """The schema of a frame of pandas, with or without an index column."""
    frame = pd.DataFrame({"ra": [1.0], "id": [1], "_hipscat_index": np.array([1], np.uint64)})
    return pa.Table.from_pandas(frame.set_index(index) if index else frame).schema


@pytest.mark.parametrize("index", ["_hipscat_index", None])
def test_source_columns_are_appended_also_to_pandas_metadata(index: str | None) -> None:
    primary = frame_schema(index)
    found = hipscat.margin_schema(primary, SOURCE)
    assert found.names == [*primary.names, "margin_Norder", "margin_Dir", "margin_Npix"]
    assert found.types[-3:] == [pa.uint8(), pa.uint64(), pa.uint64()]
    frame = primary.empty_table().to_pandas()
    for name, kind in hipscat.PIXEL_COLUMNS.items():
        frame[f"margin_{name}"] = pd.Series(dtype=kind.to_pandas_dtype())
    expected = pa.Schema.from_pandas(frame).pandas_metadata
    assert found.pandas_metadata["columns"] == expected["columns"]
    assert found.pandas_metadata["index_columns"] == primary.pandas_metadata["index_columns"]


def test_other_metadata_are_kept_and_none_are_added() -> None:
    plain = pa.schema([("ra", pa.float64())])
    assert not hipscat.margin_schema(plain, SOURCE).metadata
    assert hipscat.margin_schema(plain.with_metadata({"a": "b"}), SOURCE).metadata == {b"a": b"b"}


@pytest.mark.parametrize(
    "pandas",
    [
        *("{", "[]", "null", '"x"', '{"columns": 3}', '{"columns": [3]}', '{"columns": {"a": 1}}'),
        *('{"columns": [{}], "index_columns": 5}', "9" * 5000, "[" * 100_000),
        '{"columns": [{"field_name": {}}], "index_columns": ["a"]}',
    ],
    ids=lambda text: text[:50],
)
def test_damaged_metadata_of_pandas_are_refused(pandas: str) -> None:
    schema = pa.schema([("ra", pa.float64())], {"pandas": pandas})
    with pytest.raises(
        MarginCacheError, match=r"^sky/_common_metadata: its pandas metadata are damaged"
    ):
        hipscat.margin_schema(schema, SOURCE)


def test_a_margin_is_refused_as_a_primary() -> None:
    schema = pa.schema([("ra", pa.float64()), ("margin_Npix", pa.uint64())])
    with pytest.raises(MarginCacheError, match="has a column margin_Npix, as only margins"):
        hipscat.margin_schema(schema, SOURCE)


TEXT = (pa.string(), pa.large_string(), pa.string_view())
INTEGERS = (pa.uint8(), pa.int16(), pa.int32(), pa.uint64())


@pytest.mark.parametrize("kind", [*TEXT, *INTEGERS, pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_pixel_columns_may_be_whole_numbers_or_text(kind: pa.DataType) -> None:
    primary = pa.schema([("Norder", kind), ("Npix", kind)])
    assert hipscat.margin_schema(primary, SOURCE).types[:2] == [kind, kind]


def test_rows_name_their_destination_and_source_pixels() -> None:
    destinations = np.array([9, 9]), np.array([2_345_678, 2_345_678])
    sources = np.array([3, 9]), np.array([7, 123_456])
    found = hipscat.pixel_columns(destinations, sources)
    assert list(found) == [
        "Norder",
        "Dir",
        "Npix",
        "margin_Norder",
        "margin_Dir",
        "margin_Npix",
    ]
    assert [values.tolist() for values in found.values()] == [
        [9, 9],
        [2_340_000, 2_340_000],
        [2_345_678, 2_345_678],
        [3, 9],
        [0, 120_000],
        [7, 123_456],
    ]


def test_a_margin_describes_itself_in_the_order_of_hipscat(tmp_path: Path) -> None:
    summary = MarginSummary(
        primary=replace(HIPSCAT, path="some/sky"),
        output_dir=tmp_path / "my_margin",
        rows=77,
        threshold=5.0,
        order=3,
        sky_fraction=0.5,
        size=1000,
        npix_suffix=".parquet",
        properties={},
    )
    description, names = hipscat.write_description(tmp_path, summary)
    assert names == ["catalog_info.json"]
    assert json.loads((tmp_path / names[0]).read_text(encoding="utf-8")) == description
    assert list(description.items()) == [
        ("catalog_name", "my_margin"),
        ("catalog_type", "margin"),
        ("total_rows", 77),
        ("epoch", "J2000"),
        ("ra_column", "ra"),
        ("dec_column", "dec"),
        ("primary_catalog", "some/sky"),
        ("margin_threshold", 5.0),
    ]


def test_partitions_are_listed_with_their_directories() -> None:
    found = hipscat.partition_list([(1, 47), (9, 123_456)])
    assert found == "Norder,Npix,Dir\n1,47,0\n9,123456,120000\n"
    assert hipscat.partition_list([]) == "Norder,Npix,Dir\n"


def test_metadata_names_files_with_a_leading_slash() -> None:
    assert HIPSCAT.footer_path("Norder=1/x.parquet") == "/Norder=1/x.parquet"
