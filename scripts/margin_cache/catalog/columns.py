"""Columns: the schemas of a catalog, of its shards and of its margins."""

from collections import Counter
from pathlib import Path

import pyarrow as pa

from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.catalog.spec import COMMON_METADATA
from margin_cache.errors import MarginCacheError
from margin_cache.storage.parquet_files import open_parquet

DESTINATION, SOURCE = "margin_cache:destination", "margin_cache:source"


def without_dictionaries(arrow_type: pa.DataType) -> pa.DataType:
    """Return a type with every dictionary in it replaced by the type of its values.

    A dictionary's content depends on which rows were read together; the values do not. Views
    of strings and binaries are replaced as well, since Arrow cannot take rows of them.
    """
    if pa.types.is_dictionary(arrow_type):
        return without_dictionaries(arrow_type.value_type)
    if pa.types.is_string_view(arrow_type):
        return pa.string()
    if pa.types.is_binary_view(arrow_type):
        return pa.binary()
    if pa.types.is_struct(arrow_type):
        return pa.struct(
            [field.with_type(without_dictionaries(field.type)) for field in arrow_type]
        )
    if pa.types.is_map(arrow_type):
        return pa.map_(
            arrow_type.key_field.with_type(without_dictionaries(arrow_type.key_type)),
            arrow_type.item_field.with_type(without_dictionaries(arrow_type.item_type)),
        )
    if pa.types.is_fixed_size_list(arrow_type):
        return pa.list_(
            arrow_type.value_field.with_type(without_dictionaries(arrow_type.value_type)),
            arrow_type.list_size,
        )
    if pa.types.is_large_list(arrow_type):
        return pa.large_list(
            arrow_type.value_field.with_type(without_dictionaries(arrow_type.value_type))
        )
    if pa.types.is_list(arrow_type):
        return pa.list_(
            arrow_type.value_field.with_type(without_dictionaries(arrow_type.value_type))
        )
    return arrow_type


def schema_without_dictionaries(schema: pa.Schema) -> pa.Schema:
    """Return a schema, without metadata, whose types are ``without_dictionaries``."""
    return pa.schema([field.with_type(without_dictionaries(field.type)) for field in schema])


def shard_schema(primary: pa.Schema) -> pa.Schema:
    """Return the schema of the shards of a primary catalog."""
    return pa.schema(
        [
            pa.field(DESTINATION, pa.uint32()),
            pa.field(SOURCE, pa.uint32()),
            *schema_without_dictionaries(primary),
        ]
    )


def read_schema(info: CatalogInfo, partitions: Partitions) -> pa.Schema:
    """Return the Arrow schema of a catalog, with its metadata, and check what a margin needs.

    Raises:
        MarginCacheError: the index or a coordinate column is missing or has a wrong type, or two
            columns have the same name.
    """
    source = schema_source(info, partitions)
    schema = open_parquet(source).schema_arrow
    check_columns(info, schema, source)
    return schema


def check_unchanged(info: CatalogInfo, partitions: Partitions, planned: pa.Schema) -> None:
    """Check that the schema of a catalog is still the one that a margin was planned with.

    Raises:
        MarginCacheError: it is another one, or not there any more.
    """
    source = schema_source(info, partitions)
    if not open_parquet(source).schema_arrow.equals(planned, check_metadata=True):
        raise MarginCacheError(
            f"{source}: the catalog's columns were changed after the run began; start the run again"
        )


def schema_source(info: CatalogInfo, partitions: Partitions) -> Path:
    """Return the file whose schema is that of a catalog: `_common_metadata`, or a partition."""
    common = info.parquet_dir / COMMON_METADATA
    # A link that leads nowhere is not there, but was to be.
    if common.exists() or common.is_symlink():
        return common
    return partition_files(info, partitions[0].pixel)[0]


def check_columns(info: CatalogInfo, schema: pa.Schema, source: Path) -> None:
    """Check that a file has the spatial index and the coordinates, and each column once.

    Raises:
        MarginCacheError: one is missing or has a wrong type, two have the same name, or one has a
            name that shards need.
    """
    for name, times in Counter(schema.names).most_common(1):
        if times > 1:
            raise MarginCacheError(f"{source}: has several columns {name}; rename all but one")
    if info.ra_column == info.dec_column:
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: its metadata gives the column {info.ra_column} both "
            "as right ascension and as declination; correct it"
        )
    for name in (DESTINATION, SOURCE):
        if name in schema.names:
            raise MarginCacheError(
                f"{source}: has a column {name}, which only intermediate files have; rename it"
            )
    index = (
        [] if info.index_column is None else [(info.index_column, _is_index, "a 64-bit integer")]
    )
    for column, is_right, wanted in (
        *index,
        (info.ra_column, pa.types.is_floating, "a floating-point"),
        (info.dec_column, pa.types.is_floating, "a floating-point"),
    ):
        if column not in schema.names:
            raise MarginCacheError(
                f"{source}: has no column {column}, which making a margin needs; is it the name "
                "that the catalog's metadata gives?"
            )
        if not is_right(schema.field(column).type):
            raise MarginCacheError(
                f"{source}: the column {column} has the type {schema.field(column).type}, "
                f"not {wanted} one, as making a margin needs"
            )


def _is_index(arrow_type: pa.DataType) -> bool:
    return arrow_type in (pa.int64(), pa.uint64())


def check_schema(schema: pa.Schema, expected: pa.Schema, path: Path) -> None:
    """Check that a partition has the columns of its catalog.

    Raises:
        MarginCacheError: a column is missing, has another type, or is in another position.
    """
    if schema.equals(expected):
        return
    problem = _difference(schema, expected)
    if problem:
        raise MarginCacheError(
            f"{path}: {problem}; all partitions need the columns of the catalog's "
            "_common_metadata, or of its first partition if there is none"
        )


def _difference(schema: pa.Schema, expected: pa.Schema) -> str:
    """Say what differs between the columns of two schemas; nothing if only nullability does."""
    for field in expected:
        if field.name not in schema.names:
            return f"lacks the column {field.name}"
        found = schema.field(field.name).type
        if found != field.type:
            return f"the column {field.name} has the type {found} instead of {field.type}"
    extra = [name for name in schema.names if name not in expected.names]
    if extra:
        return f"has a column {extra[0]} more than the catalog"
    return "" if schema.names == expected.names else "its columns are in another order"
