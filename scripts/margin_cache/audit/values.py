"""Numbers that stand for the values of rows, so that rows can be compared by them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

Digests = npt.NDArray[np.uint64]

FACTOR = np.uint64(1_000_003)


def row_digests(table: pa.Table, columns: Sequence[str]) -> Digests:
    """Return a number for the values of each row, the same for the same values.

    A column without nulls and one with some are alike, though pandas has other types for them.
    All NaN are one.

    Args:
        table: The rows.
        columns: The columns that count, by their names, in an order.
    """
    digests = np.zeros(len(table), np.uint64)
    for name in columns:
        digests = digests * FACTOR + _column_digests(table[name].combine_chunks())
    return digests


def _column_digests(column: pa.Array) -> Digests:
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = column.fill_null(kind.to_pandas_dtype()(0)).to_numpy(zero_copy_only=False)
        found = np.asarray(pd.util.hash_array(np.where(values != values, np.nan, values)))
        return found + np.asarray(column.is_null()).astype(np.uint64)
    column = column.cast(_plain(kind))
    texts = np.array([repr(value) for value in column.to_pylist()], object)
    return np.asarray(pd.util.hash_array(texts), np.uint64)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return a type whose values Python has too: its dates end with the year 9999."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind
