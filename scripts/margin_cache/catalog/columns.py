"""Columns: the schemas of a catalog, of its shards and of its margins."""

from collections import Counter
from pathlib import Path

import pyarrow as pa

from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.storage.parquet_file import open_parquet

DESTINATION, SOURCE = "margin_cache:destination", "margin_cache:source"


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type with every dictionary in it replaced by the type of its values.

    A dictionary's content depends on which rows were read together; plain values do not. Views
    of strings and binaries are replaced as well, since Arrow cannot take rows of them.
    """
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(
            kind.key_field.with_type(plain_type(kind.key_type)),
            kind.item_field.with_type(plain_type(kind.item_type)),
        )
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(plain_type(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)))
    return kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema, without metadata, whose fields have their ``plain_type``."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema])


def shard_schema(primary: pa.Schema) -> pa.Schema:
    """Return the schema of the shards of a primary catalog."""
    return pa.schema(
        [pa.field(DESTINATION, pa.uint32()), pa.field(SOURCE, pa.uint32()), *plain_schema(primary)]
    )


def read_schema(info: CatalogInfo, partitions: Partitions) -> pa.Schema:
    """Return the Arrow schema of a catalog, with its metadata, and check what a margin needs.

    Raises:
        MarginCacheError: the index or a coordinate column is missing or has a wrong type, or two
            columns have the same name.
    """
    common = Path(info.path, info.dataset, "_common_metadata")
    first = partition_files(info, int(partitions.orders[0]), int(partitions.pixels[0]))[0]
    source = common if common.exists() else first
    schema = open_parquet(source).schema_arrow
    check_columns(info, schema, source)
    return schema


def check_columns(info: CatalogInfo, schema: pa.Schema, source: Path) -> None:
    """Check that a file has the spatial index and the coordinates, and each column once.

    Raises:
        MarginCacheError: one is missing or has a wrong type, or two have the same name.
    """
    for name, times in Counter(schema.names).most_common(1):
        if times > 1:
            raise MarginCacheError(f"{source}: has several columns {name}; rename all but one")
    index = (
        [] if info.index_column is None else [(info.index_column, _is_index, "a 64-bit integer")]
    )
    for column, right, kind in (
        *index,
        (info.ra_column, pa.types.is_floating, "a floating-point"),
        (info.dec_column, pa.types.is_floating, "a floating-point"),
    ):
        if column not in schema.names:
            raise MarginCacheError(
                f"{source}: has no column {column}, which making a margin needs; is it the name "
                "that the catalog's metadata gives?"
            )
        if not right(schema.field(column).type):
            raise MarginCacheError(
                f"{source}: the column {column} has the type {schema.field(column).type}, "
                f"not {kind} one, as making a margin needs"
            )


def _is_index(kind: pa.DataType) -> bool:
    return kind in (pa.int64(), pa.uint64())


def check_schema(schema: pa.Schema, expected: pa.Schema, path: Path) -> None:
    """Check that a partition has the columns of its catalog.

    Raises:
        MarginCacheError: a column is missing, has another type, or stands in another place.
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
