"""Digests of the values of rows, of columns of any Arrow type.

Equal values have equal digests: NaN and NaN, 0 and -0, and values whose types differ only in their
layout or width (`plain_type`), as those of `string` and `large_string`.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Digests = npt.NDArray[np.uint64]

FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Any large odd number: the digest of a row is a polynomial of it, with the hashes of its values
as coefficients, modulo 2**64."""


def row_digests(
    table: pa.Table,
    columns: Sequence[str],
    rows: npt.NDArray[np.int64] | None = None,
    digests: Digests | None = None,
) -> Digests:
    """Return a number for the values of each row, which does not depend on other rows.

    Args:
        table: Rows.
        columns: Names of columns, whose order matters.
        rows: Positions of the rows that are wanted; None for all.
        digests: Digests of these rows in preceding columns.
    """
    if digests is None:
        digests = np.zeros(len(table) if rows is None else len(rows), np.uint64)
    indices = None if rows is None or len(rows) == len(table) else pa.array(rows)
    hashed = pl.DataFrame([pl.Series(name, _hashed(table[name], indices)) for name in columns])
    for column in hashed.select(pl.all().hash()):
        digests = digests * FACTOR + column.to_numpy()
    return digests


def _hashed(column: pa.ChunkedArray, rows: pa.Array | None) -> pa.ChunkedArray:
    """Return some rows of a column, in a type that Polars can hash."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        storages = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(storages, kind.storage_type)
    if rows is not None:
        with suppress(pa.ArrowNotImplementedError):  # for string_view
            column, rows = column.take(rows), None
    if "list_view" in str(kind):  # the casts of PyArrow 26 leave out the last offset
        lists = _with_leaves(kind, lambda leaf: leaf)
        column = pa.chunked_array([pa.array(column.to_pylist(), lists)])
    column = column.cast(_with_leaves(plain_type(kind), _hashed_leaf))
    return column if rows is None else column.take(rows)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that stands for all types of the same values, of any layout and width."""
    return _with_leaves(kind, _plain_leaf)


def _with_leaves(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return a type of the same values, with `leaf` of each type that has no parts."""
    if isinstance(kind, pa.BaseExtensionType):
        return _with_leaves(kind.storage_type, leaf)
    if pa.types.is_dictionary(kind):
        return _with_leaves(kind.value_type, leaf)
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _with_leaves(field.type, leaf)) for field in kind])
    if pa.types.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        return pa.large_list(_with_leaves(entry, leaf))
    if pa.types.is_nested(kind):  # lists of all kinds
        return pa.large_list(_with_leaves(kind.value_type, leaf))
    return leaf(kind)


def _plain_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_signed_integer(kind):
        return pa.int64()
    if pa.types.is_unsigned_integer(kind):
        return pa.uint64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_decimal(kind):
        return pa.decimal256(76, kind.scale)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if str(kind).endswith(("binary", "binary_view")) or pa.types.is_fixed_size_binary(kind):
        return pa.large_binary()
    return kind


def _hashed_leaf(kind: pa.DataType) -> pa.DataType:
    """Return a type that Polars takes without loss, for a plain type."""
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_decimal(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_large_string(kind) else kind
