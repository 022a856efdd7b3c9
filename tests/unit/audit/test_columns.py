from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.metadata import PrimaryColumns, name_pixel

PIXEL = {"Norder": "uint8", "Dir": "uint64", "Npix": "uint64"}
SOURCE = {f"margin_{name}": kind for name, kind in PIXEL.items()}


def columns_of(
    directory: Path, *schemas: dict[str, str | pa.DataType], is_hipscat: bool = False
) -> PrimaryColumns:
    """The columns of a primary whose partitions have these schemas."""
    pixels = [(1, number) for number in range(len(schemas))]
    primary = AuditedCatalog(
        directory, pixels, ".parquet", None, None, None, ("ra", "dec"), is_hipscat
    )
    for pixel, schema in zip(pixels, schemas):
        path = primary.path(pixel)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.schema(schema).empty_table(), path)
    return PrimaryColumns(primary)


def test_all_columns_of_the_primary_are_needed(tmp_path: Path) -> None:
    primary = {"a": "int64", "b": "string", **PIXEL, "_hipscat_index": "uint64"}
    columns = columns_of(tmp_path, primary, is_hipscat=True)
    assert columns.defects(pa.schema(primary | SOURCE)) == []
    assert columns.are_comparable(pa.schema(primary | SOURCE))
    margin = pa.schema({**primary, "b": "int8", "c": "string", "margin_Npix": "uint64"})
    assert columns.defects(margin.remove(0)) == [
        "no column a",
        "no column margin_Norder",
        "no column margin_Dir",
        "column c is not in the primary",
        "column b is int8, not string",
    ]
    assert not columns.are_comparable(margin)


def test_columns_that_name_pixels_are_data_in_hats(tmp_path: Path) -> None:
    columns = columns_of(tmp_path, {"a": "int64", **PIXEL})
    assert columns.compared == ["a", *PIXEL]
    assert columns.defects(pa.schema({"a": "int64"})) == [f"no column {name}" for name in PIXEL]


def test_types_of_the_same_values_are_compared_and_told_apart(tmp_path: Path) -> None:
    columns = columns_of(tmp_path, {"a": "int64", "b": "string"})
    other = pa.schema({"a": "int16", "b": "large_string"})
    assert columns.are_comparable(other)
    assert columns.defects(other) == [
        "column a is int16, not int64",
        "column b is large_string, not string",
    ]


def test_a_type_of_any_partition_or_of_the_catalog_is_right(tmp_path: Path) -> None:
    common = pa.schema({"a": "int64", "b": "large_string", "c": "float64"})
    pq.write_metadata(common, tmp_path / "_common_metadata")
    columns = columns_of(
        tmp_path,
        {"a": "float64", "b": "string", "c": "null"},
        {"a": "int64", "b": "string", "c": "float64"},
    )
    assert columns.defects(common) == []
    assert columns.are_comparable(common)


def test_rows_that_name_another_pixel_are_found() -> None:
    rows = pa.table({"Norder": [3, 3], "Dir": [10_000, 10_000], "Npix": [12_345, 12_346]})
    assert np.array_equal(name_pixel(rows, (3, 12_345)), [True, False])
    for others in (["12345", "99"], ["12345", "?"], [12_345.0, 12_345.5], [12_345, None]):
        rows = pa.table({"Npix": others})
        assert np.array_equal(name_pixel(rows, (3, 12_345)), [True, False])
    rows = pa.table({"Npix": pa.array([12_345, 99]).dictionary_encode()})
    assert np.array_equal(name_pixel(rows, (3, 12_345)), [True, False])


def test_columns_that_occur_twice_are_found(tmp_path: Path) -> None:
    columns = columns_of(tmp_path, {"a": "int64", "b": "string"})
    twice = pa.schema([("a", "int64"), *[("b", "string")] * 2, *[("c", "int8")] * 2])
    assert columns.defects(twice) == [
        *(f"several columns {name}" for name in "bc"),
        "column c is not in the primary",
    ]
    assert not columns.are_comparable(twice)


def test_a_spatial_index_is_an_integer(tmp_path: Path) -> None:
    columns = columns_of(tmp_path, {"_healpix_29": "uint64"})
    assert columns.defects(pa.schema({"_healpix_29": "int64"})) == []
    assert columns.defects(pa.schema({"_healpix_29": "string"})) == [
        "column _healpix_29 is string, not uint64"
    ]
