"""Schemas of a catalog, its shards and its margins; spatial index and coordinates of its rows."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.catalog.spec import COMMON_METADATA, DIR, NORDER, NPIX
from margin_cache.errors import MarginCacheError

DESTINATION, SOURCE = "margin_cache:destination", "margin_cache:source"
"""Columns of a shard: indices of the pixel that a row is for, and of the partition it is from."""

_PATH_COLUMNS = (NORDER, DIR, NPIX)


def without_dictionaries(arrow_type: pa.DataType) -> pa.DataType:
    """Replace dictionaries and views in a type by types whose content depends on rows alone."""
    if pa.types.is_dictionary(arrow_type):
        return without_dictionaries(arrow_type.value_type)
    if pa.types.is_string_view(arrow_type):
        return pa.string()
    if pa.types.is_binary_view(arrow_type):
        return pa.binary()
    if pa.types.is_struct(arrow_type):
        return pa.struct([_plain(field) for field in arrow_type])
    if pa.types.is_map(arrow_type):
        return pa.map_(_plain(arrow_type.key_field), _plain(arrow_type.item_field))
    if pa.types.is_fixed_size_list(arrow_type):
        return pa.list_(_plain(arrow_type.value_field), arrow_type.list_size)
    if pa.types.is_large_list(arrow_type):
        return pa.large_list(_plain(arrow_type.value_field))
    if pa.types.is_list(arrow_type):
        return pa.list_(_plain(arrow_type.value_field))
    return arrow_type


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(without_dictionaries(field.type))


def schema_without_dictionaries(schema: pa.Schema) -> pa.Schema:
    return pa.schema([_plain(field) for field in schema])


def shard_schema(primary: pa.Schema) -> pa.Schema:
    own = [pa.field(DESTINATION, pa.uint32()), pa.field(SOURCE, pa.uint32())]
    return pa.schema([*own, *schema_without_dictionaries(primary)])


def read_schema(info: CatalogInfo, partitions: Partitions) -> pa.Schema:
    """Return the Arrow schema of a catalog, checked by ``check_columns``, with its metadata."""
    source = schema_source(info, partitions)
    schema = info.files.open_parquet(source).schema_arrow
    check_columns(info, schema, info.files.name(source))
    return schema


def schema_source(info: CatalogInfo, partitions: Partitions) -> str:
    common = info.parquet_path(COMMON_METADATA)
    # A broken link is not ignored: the file was meant to exist.
    if info.files.exists(common):
        return common
    return partition_files(info, partitions[0].pixel)[0]


def check_columns(info: CatalogInfo, schema: pa.Schema, source: str) -> None:
    """Check that a file has the spatial index and the coordinates, and each column once."""
    for name, times in Counter(schema.names).most_common(1):
        if times > 1:
            raise MarginCacheError(f"{source}: has several columns {name}. Rename all but one.")
    for column in (info.index_column, info.ra_column, info.dec_column):
        if column is None:
            continue
        if column not in schema.names:
            raise MarginCacheError(
                f"{source}: has no column {column}, which a margin needs. Check the column names "
                "in the catalog's metadata."
            )
        arrow_type = schema.field(column).type
        if column == info.index_column:
            is_right, expected = arrow_type in (pa.int64(), pa.uint64()), "a 64-bit integer"
        else:
            is_right, expected = pa.types.is_floating(arrow_type), "a floating-point"
        if not is_right:
            raise MarginCacheError(
                f"{source}: the column {column} has the type {arrow_type}, but a margin needs "
                f"{expected} type. Write the catalog again, or name another column in its metadata."
            )


def check_schema(schema: pa.Schema, expected: pa.Schema, path: str) -> None:
    """Check that a partition has the columns of its catalog, with types that these can hold."""
    if problem := _difference(schema, expected):
        raise MarginCacheError(
            f"{path}: {problem}. All partitions need the columns of the catalog's "
            f"{COMMON_METADATA}, or of its first partition if there is none."
        )


def _difference(schema: pa.Schema, expected: pa.Schema) -> str:
    """Describe a difference of two schemas that loses values; "" if there is none."""
    for field in expected:
        if field.name not in schema.names:
            # Readers that take them from the paths put them into ``_common_metadata``.
            if field.name in _PATH_COLUMNS:
                continue
            return f"lacks the column {field.name}"
        arrow_type = schema.field(field.name).type
        if not can_hold(field.type, arrow_type):
            return f"the column {field.name} has the type {arrow_type} instead of {field.type}"
    for name in schema.names:
        if name not in expected.names and name not in _PATH_COLUMNS:
            return f"has the column {name}, which the catalog does not have"
    return ""


def can_hold(expected: pa.DataType, arrow_type: pa.DataType) -> bool:
    """Return whether a cast to a type keeps all values and what they mean, or fails."""
    types = pa.types
    if arrow_type == expected or types.is_null(arrow_type):
        return True
    if types.is_dictionary(arrow_type):
        return can_hold(expected, arrow_type.value_type)
    if types.is_dictionary(expected):
        return can_hold(expected.value_type, arrow_type)
    if types.is_floating(arrow_type) and types.is_floating(expected):
        return arrow_type.bit_width <= expected.bit_width  # or they would be rounded
    if types.is_integer(arrow_type) and types.is_floating(expected):
        return expected.bit_width > 16  # PyArrow does not check casts to half floats
    if types.is_floating(arrow_type) and types.is_integer(expected):
        return True  # what pandas makes of whole numbers with nulls
    if types.is_timestamp(arrow_type) and types.is_timestamp(expected):
        return arrow_type.tz == expected.tz
    if _is_any(arrow_type, LISTS) and _is_any(expected, LISTS):
        return _field_can_hold(expected.value_field, arrow_type.value_field)
    if types.is_map(arrow_type) and types.is_map(expected):
        return _field_can_hold(expected.key_field, arrow_type.key_field) and _field_can_hold(
            expected.item_field, arrow_type.item_field
        )
    if types.is_struct(arrow_type) and types.is_struct(expected):
        return sorted(arrow_type.names) == sorted(expected.names) and all(
            _field_can_hold(field, arrow_type.field(field.name)) for field in expected
        )
    return any(_is_any(arrow_type, kind) and _is_any(expected, kind) for kind in _KINDS)


def _field_can_hold(expected: pa.Field, field: pa.Field) -> bool:
    return (expected.nullable or not field.nullable) and can_hold(expected.type, field.type)


def _is_any(arrow_type: pa.DataType, checks: Iterable[Callable[[pa.DataType], bool]]) -> bool:
    return any(check(arrow_type) for check in checks)


LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

_KINDS = (
    (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
        pa.types.is_fixed_size_binary,
    ),
    *((pa.types.is_integer,), (pa.types.is_decimal,)),
    *((pa.types.is_date,), (pa.types.is_time,), (pa.types.is_duration,)),
)
"""Kinds of types of different widths or units. Some writers do not tell strings from bytes."""


def cast_column(
    column: pa.Array | pa.ChunkedArray, field: pa.Field, path: str
) -> pa.Array | pa.ChunkedArray:
    """Cast a column of a file to a type of its catalog; ArrowException if it is damaged."""
    # PyArrow takes as long for a cast to the same type.
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        if without_dictionaries(column.type) == without_dictionaries(field.type):
            raise
        raise MarginCacheError(
            f"{path}: the column {field.name} has the type {column.type} and a value that the "
            f"catalog's type {field.type} cannot hold ({error}). Write the file again with the "
            "catalog's type, or the catalog with a larger one."
        ) from None


def spatial_index(info: CatalogInfo, table: pa.Table) -> NDArray[np.integer]:
    """Return the spatial index of rows; without that column, compute it from the coordinates."""
    if info.index_column is not None:
        return table[info.index_column].to_numpy()
    # Imported here, because jobs of catalogs with the column start faster without it.
    from margin_cache.healpix.neighbors import pixels_at

    return pixels_at(info.index_order, *coordinates(info, table))


def coordinates(
    info: CatalogInfo, table: pa.Table
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascensions and declinations in degrees; NaN for null."""
    return tuple(
        table[column].cast(pa.float64()).to_numpy() for column in (info.ra_column, info.dec_column)
    )
