"""The schemas of what is made from a primary catalog: its shards and its margins."""

import pyarrow as pa

from margin_cache.catalog import CatalogInfo
from margin_cache.hipscat_format import with_margin_columns

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


def margin_schema(info: CatalogInfo, primary: pa.Schema) -> pa.Schema:
    """Return the schema of a margin: in HATS the primary's, in HiPSCat with three columns more."""
    return with_margin_columns(primary) if info.format == "hipscat" else primary
