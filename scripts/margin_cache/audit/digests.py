"""Digests of the values of rows, of columns of any Arrow type.

Equal values have equal digests: NaN and NaN, 0 and -0, and values whose types differ only in their
layout or width (`plain_type`), as those of `string` and `large_string`.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Digests = npt.NDArray[np.uint64]

# Odd constants of splitmix64 (Steele et al. 2014, OOPSLA, "Fast splittable pseudorandom number
# generators"), whose arithmetic is modulo 2**64.
STEP = np.uint64(0x9E3779B97F4A7C15)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
NULL = np.uint64(0x6A09E667F3BCC909)

_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
_BINARIES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)


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
    for name in columns:
        digests = _mix(digests + STEP) + _column_digests(table[name], indices)
    return digests


def _column_digests(column: pa.ChunkedArray, rows: pa.Array | None) -> Digests:
    if rows is not None:
        with suppress(pa.ArrowNotImplementedError):  # for string_view
            column, rows = column.take(rows), None
    chunks = [_digests(chunk) for chunk in column.chunks]
    digests = np.concatenate([np.empty(0, np.uint64), *chunks])
    return digests if rows is None else digests[rows.to_numpy()]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that stands for all types of the same values, of any layout and width."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if any(is_kind(kind) for is_kind in _LISTS):
        return pa.large_list(plain_type(kind.value_type))
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
    if any(is_kind(kind) for is_kind in _BINARIES):
        return pa.large_binary()
    return kind


def _digests(values: pa.Array) -> Digests:
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _digests(values.storage)
    if pa.types.is_run_end_encoded(kind):
        return _digests(pc.run_end_decode(values))
    if pa.types.is_null(kind):
        return np.full(len(values), NULL)
    if pa.types.is_dictionary(kind):
        indices = values.indices.fill_null(0).to_numpy(zero_copy_only=False)
        digests = np.append(_digests(values.dictionary), NULL)  # all are null if it is empty
        digests = digests[indices]
    elif pa.types.is_struct(kind):
        digests = np.zeros(len(values), np.uint64)
        for field in values.flatten():
            digests = _mix(digests + STEP) + _digests(field)
    elif pa.types.is_map(kind):
        entry = pa.struct([kind.key_field, kind.item_field])
        digests = _list_digests(values.cast(pa.list_(entry)))
    elif any(is_kind(kind) for is_kind in _LISTS):
        digests = _list_digests(values)
    else:
        digests = _mix(_plain_digests(values))
    if not values.null_count:
        return digests
    return np.where(values.is_null().to_numpy(zero_copy_only=False), NULL, digests)


def _list_digests(values: pa.Array) -> Digests:
    """Return digests of lists: sums over their items, each mixed with its position."""
    lengths = pc.list_value_length(values).fill_null(0).to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    items = _digests(values.flatten())
    positions = np.arange(len(items)) - np.repeat(ends - lengths, lengths)
    sums = np.append(np.uint64(0), np.cumsum(_mix(items + positions.astype(np.uint64) * STEP)))
    return _mix(sums[ends] - sums[ends - lengths] + lengths.astype(np.uint64) * STEP)


def _plain_digests(values: pa.Array) -> Digests:
    """Return digests of values that are not nested; those of nulls do not matter."""
    kind = values.type
    if pa.types.is_floating(kind):
        numbers = _filled(values.cast(pa.float64()), 0)
        numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0)  # -0 + 0 is 0
        return np.asarray(numbers).view(np.uint64)
    if pa.types.is_decimal(kind) or pa.types.is_interval(kind):
        values = values.cast(plain_type(kind))
        number = values.type.bit_width // 64
        words = np.frombuffer(values.buffers()[1], np.uint64).reshape(-1, number)
        words = words[values.offset : values.offset + len(values)]
        digests = np.zeros(len(words), np.uint64)
        for word in words.T:
            digests = _mix(digests + STEP) + word
        return digests
    if pa.types.is_temporal(kind):
        values = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    if pa.types.is_boolean(kind) or pa.types.is_integer(values.type):
        numbers = values.cast(pa.uint8() if pa.types.is_boolean(kind) else plain_type(values.type))
        return _filled(numbers, 0).astype(np.uint64)
    texts = _filled(values.cast(pa.large_binary()), b"")
    return np.asarray(pd.util.hash_array(texts), np.uint64)


def _filled(values: pa.Array, filler: int | bytes) -> npt.NDArray[Any]:
    """Return values with another one instead of null."""
    values = values.fill_null(filler) if values.null_count else values
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _mix(numbers: Digests) -> Digests:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * FACTORS[0]
    numbers = (numbers ^ (numbers >> np.uint64(27))) * FACTORS[1]
    return numbers ^ (numbers >> np.uint64(31))
