"""Schemas are checked and compared; index and coordinates are taken from rows."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.columns import (
    DESTINATION,
    SOURCE,
    check_columns,
    check_schema,
    coordinates,
    read_schema,
    schema_without_dictionaries,
    shard_schema,
    spatial_index,
    without_dictionaries,
)
from margin_cache.errors import MarginCacheError
from support import skies
from support.catalog_infos import HATS, HIPSCAT, some_partitions

PATH = Path("a.parquet")
WORDS = pa.dictionary(pa.int8(), pa.string())
SCHEMA = pa.schema(
    [
        ("_hipscat_index", pa.uint64()),
        ("ra", pa.float64()),
        ("dec", pa.float32()),
        ("mag", pa.float32()),
    ]
)


def changed(name: str, kind: pa.DataType) -> pa.Schema:
    return SCHEMA.set(SCHEMA.get_field_index(name), pa.field(name, kind))


# --- types ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (WORDS, pa.string()),
        (pa.dictionary(pa.int32(), pa.float64()), pa.float64()),
        (pa.string_view(), pa.string()),
        (pa.binary_view(), pa.binary()),
        (pa.list_(WORDS), pa.list_(pa.string())),
        (pa.large_list(WORDS), pa.large_list(pa.string())),
        (pa.list_(WORDS, 3), pa.list_(pa.string(), 3)),
        (pa.map_(pa.string(), WORDS), pa.map_(pa.string(), pa.string())),
        (
            pa.struct([("a", pa.list_(pa.struct([("b", WORDS)])))]),
            pa.struct([("a", pa.list_(pa.struct([("b", pa.string())])))]),
        ),
    ],
    ids=str,
)
def test_dictionaries_and_views_become_plain_at_any_depth(
    kind: pa.DataType, plain: pa.DataType
) -> None:
    assert without_dictionaries(kind) == plain
    assert without_dictionaries(plain) == plain


def test_fields_keep_their_names_and_whether_they_may_be_null() -> None:
    struct = pa.struct([pa.field("f", WORDS, nullable=False), pa.field("g", pa.int16())])
    schema = pa.schema([pa.field("s", struct, nullable=False), pa.field("t", pa.timestamp("us"))])
    found = schema_without_dictionaries(schema.with_metadata({"a": "b"}))
    inner = pa.struct([pa.field("f", pa.string(), nullable=False), pa.field("g", pa.int16())])
    expected = pa.schema([pa.field("s", inner, nullable=False), pa.field("t", pa.timestamp("us"))])
    assert found.equals(expected, check_metadata=True)


def test_shards_begin_with_destination_and_source() -> None:
    found = shard_schema(pa.schema([("word", WORDS)]))
    assert found.names == [DESTINATION, SOURCE, "word"]
    assert found.types == [pa.uint32(), pa.uint32(), pa.string()]


# --- what a margin needs --------------------------------------------------------------------


@pytest.mark.parametrize("index", [pa.int64(), pa.uint64()])
@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_columns_of_suitable_types_are_accepted(index: pa.DataType, kind: pa.DataType) -> None:
    schema = pa.schema([("ra", kind), ("dec", kind), ("_hipscat_index", index)])
    check_columns(HIPSCAT, schema, PATH)


@pytest.mark.parametrize("name", ["_hipscat_index", "ra", "dec"])
def test_a_missing_required_column_is_named(name: str) -> None:
    schema = SCHEMA.remove(SCHEMA.get_field_index(name))
    with pytest.raises(MarginCacheError, match=f"a.parquet: has no column {name}, which"):
        check_columns(HIPSCAT, schema, PATH)


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("_hipscat_index", pa.float64(), "a 64-bit integer"),
        ("_hipscat_index", pa.int32(), "a 64-bit integer"),
        ("ra", pa.int64(), "a floating-point"),
        ("dec", pa.string(), "a floating-point"),
    ],
)
def test_a_column_of_a_wrong_type_is_named(name: str, kind: pa.DataType, wanted: str) -> None:
    said = f"a.parquet: the column {name} has the type {kind}, but a margin needs {wanted} type"
    with pytest.raises(MarginCacheError, match=said):
        check_columns(HIPSCAT, changed(name, kind), PATH)


def test_a_catalog_without_an_index_needs_none() -> None:
    check_columns(HATS, pa.schema([("ra", pa.float64()), ("dec", pa.float64())]), PATH)


def test_a_duplicate_column_name_is_refused() -> None:
    with pytest.raises(MarginCacheError, match="has several columns mag"):
        check_columns(HIPSCAT, SCHEMA.append(pa.field("mag", pa.float32())), PATH)


# --- all partitions alike -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (SCHEMA.remove(3), "lacks the column mag"),
        (
            SCHEMA.append(pa.field("more", pa.int8())),
            "has the column more, which the catalog does not have",
        ),
    ],
    ids=["lacks", "more"],
)
def test_columns_that_differ_are_named(schema: pa.Schema, said: str) -> None:
    with pytest.raises(MarginCacheError, match=f"a.parquet: .*{said}. All partitions need"):
        check_schema(schema, SCHEMA, PATH)


KINDS = (
    (pa.string(), pa.large_string(), pa.string_view(), WORDS, pa.binary(), pa.binary(4)),
    (pa.int8(), pa.uint8(), pa.int32(), pa.uint64()),
    (pa.bool_(),),
    (pa.date32(), pa.date64()),
    (pa.time32("s"), pa.time64("us")),
    (pa.timestamp("us"), pa.timestamp("ns")),
    (pa.timestamp("us", tz="UTC"),),
    (pa.timestamp("us", tz="Europe/Paris"),),
    (pa.decimal128(9, 2), pa.decimal128(9, 3)),
    (
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.field("element", WORDS), 2),
    ),
    (
        pa.struct([("a", pa.int8()), ("b", WORDS)]),
        pa.struct([("b", pa.string()), ("a", pa.int64())]),
    ),
    (pa.struct([("a", pa.int8())]),),
    (pa.map_(pa.string(), pa.int8()), pa.map_(pa.large_string(), pa.int64())),
    (pa.uuid(),),
)
"""Types of each kind hold one another's values, or a cast fails."""


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[str(kind[0]) for kind in KINDS])
def test_types_that_can_hold_a_columns_values_may_differ(kind: int) -> None:
    for arrow_type in KINDS[kind]:
        check_schema(changed("mag", pa.null()), changed("mag", arrow_type), PATH)
        for number, others in enumerate(KINDS):
            for other in others:
                if number == kind:
                    check_schema(changed("mag", arrow_type), changed("mag", other), PATH)
                    continue
                said = f"mag has the type {arrow_type} instead of {other}"
                with pytest.raises(MarginCacheError, match=re.escape(said)):
                    check_schema(changed("mag", arrow_type), changed("mag", other), PATH)


@pytest.mark.parametrize(
    ("arrow_type", "expected"),
    [
        (pa.float64(), pa.float32()),
        (pa.int8(), pa.float16()),
        (pa.string(), pa.null()),
        (pa.list_(pa.float64()), pa.large_list(pa.float32())),
        (pa.list_(pa.int8()), pa.list_(pa.field("item", pa.int8(), nullable=False))),
    ],
    ids=str,
)
def test_types_that_lose_values_or_may_not_be_null_are_refused(
    arrow_type: pa.DataType, expected: pa.DataType
) -> None:
    check_schema(changed("mag", expected), changed("mag", arrow_type), PATH)
    with pytest.raises(MarginCacheError, match="the column mag has the type"):
        check_schema(changed("mag", arrow_type), changed("mag", expected), PATH)


@pytest.mark.parametrize("name", ["Norder", "Dir", "Npix"])
def test_columns_of_paths_and_the_order_of_columns_may_differ(name: str) -> None:
    with_path = SCHEMA.append(pa.field(name, pa.int32()))
    check_schema(SCHEMA, with_path, PATH)
    check_schema(with_path, SCHEMA, PATH)
    check_schema(pa.schema(list(SCHEMA)[::-1]), SCHEMA, PATH)


def test_nullability_and_metadata_may_differ() -> None:
    schema = pa.schema([field.with_nullable(False) for field in SCHEMA], {"who": "another"})
    check_schema(schema, SCHEMA, PATH)


# --- the schema of a catalog ----------------------------------------------------------------


def test_the_schema_is_read_from_common_metadata_or_else_from_the_first_partition(
    tmp_path: Path,
) -> None:
    info, partitions = some_partitions(tmp_path, [(1, 5), (1, 9)], SCHEMA)
    assert read_schema(info, partitions).equals(SCHEMA)
    common = changed("mag", pa.float64()).with_metadata({"a": "b"})
    pq.write_metadata(common, tmp_path / "_common_metadata")
    assert read_schema(info, partitions).equals(common, check_metadata=True)
    pq.write_metadata(changed("ra", pa.int64()), tmp_path / "_common_metadata")
    with pytest.raises(
        MarginCacheError, match="_common_metadata: the column ra has the type int64"
    ):
        read_schema(info, partitions)


def test_a_common_metadata_that_is_a_broken_link_is_named(tmp_path: Path) -> None:
    info, partitions = some_partitions(tmp_path, [(1, 5)], SCHEMA)
    (tmp_path / "_common_metadata").symlink_to("gone")
    with pytest.raises(MarginCacheError, match="_common_metadata: no such file"):
        read_schema(info, partitions)


# --- index and coordinates of rows ----------------------------------------------------------


def test_the_spatial_index_is_the_column() -> None:
    values = np.array([3 << 40, 1 << 63], np.uint64)
    table = pa.table({"_hipscat_index": values, "ra": [1.0, 2.0], "dec": [0.0, 0.0]})
    found = spatial_index(HIPSCAT, table)
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, values)


def test_without_a_spatial_index_one_is_made_of_the_coordinates() -> None:
    ra, dec = skies.uniform_sky(np.random.default_rng(4), 500)
    found = spatial_index(HATS, pa.table({"ra": ra, "dec": dec}))
    np.testing.assert_array_equal(found, skies.nested_pixels(ra, dec, 29))


def test_coordinates_are_doubles_and_null_is_nan() -> None:
    table = pa.table({"ra": pa.array([1.5, None], pa.float32()), "dec": [None, -2.5]})
    lon, lat = coordinates(HATS, table)
    assert lon.dtype == lat.dtype == np.float64
    np.testing.assert_array_equal(lon, [1.5, np.nan])
    np.testing.assert_array_equal(lat, [np.nan, -2.5])
