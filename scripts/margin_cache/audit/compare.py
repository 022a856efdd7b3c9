"""Compares the rows that a margin has for a pixel with those that it should have.

The values of a row are compared by a digest, of columns of any Arrow type. Equal values have equal
digests: NaN and NaN, 0 and -0, and values whose types differ only in their layout or width
(`plain_type`), as those of `string` and `large_string`.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import healpy
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from margin_cache.audit.distance import (
    BEYOND,
    UNDECIDED,
    WITHIN,
    compare_distances,
    near_boundary,
)
from margin_cache.audit.findings import RowDefects

ROW = np.dtype([("index", "u8"), ("ra", "f8"), ("dec", "f8"), ("digest", "u8"), ("own", "?")])
"""A row: spatial index, position in degrees, digest, and whether it is in the pixel itself."""

Rows = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint64]

# Odd constants of splitmix64 (Steele et al. 2014, OOPSLA, "Fast splittable pseudorandom number
# generators"), whose arithmetic is modulo 2**64.
STEP = np.uint64(0x9E3779B97F4A7C15)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
NULL = np.uint64(0x6A09E667F3BCC909)

_STRINGS = pa.string(), pa.large_string(), pa.string_view()
_BINARIES = pa.binary(), pa.large_binary(), pa.binary_view()
_LISTS = (
    *(pa.ListType, pa.LargeListType, pa.FixedSizeListType),
    *(pa.ListViewType, pa.LargeListViewType),
)


def compare_rows(
    primary: Rows,
    margin: Rows,
    order: int,
    pixel: int,
    threshold: float,
    cell_order: int | None = None,
) -> RowDefects:
    """Compare a pixel's margin with the rows of the primary near the pixel.

    Rows are the same if they have the same index and position. The margin must contain as many of
    these as the primary.

    ``primary`` has the rows near the pixel, and those farther away that are in the margin. The
    threshold is in arcsec. ``cell_order`` is that of the cells of a coarse margin, which may
    contain all rows of the cells that touch the pixel; None for an exact margin.
    """
    is_near = near_boundary(primary["ra"], primary["dec"], order, pixel, threshold)
    is_in_margin = np.isin(primary["index"], margin["index"])
    primary = primary[is_in_margin | (is_near & ~primary["own"])]

    # Rows with the same key get the same code; all arrays below are indexed by code.
    rows = np.concatenate([primary, margin])
    code = row_codes(rows)
    size = code.max(initial=-1) + 1
    keys = np.empty(size, ROW)
    keys[code] = rows
    primary_code = code[: len(primary)]
    primary_count = np.bincount(primary_code, minlength=size)
    margin_count = np.bincount(code[len(primary) :], minlength=size)
    is_known, is_own = primary_count > 0, np.bincount(primary_code, primary["own"], size) > 0
    is_other = is_known & ~is_own
    verdict, distance = np.full(size, BEYOND), np.full(size, np.nan)
    ra, dec = keys["ra"][is_other], keys["dec"][is_other]
    verdict[is_other], distance[is_other] = compare_distances(ra, dec, order, pixel, threshold)
    # A row of another partition may lie inside the pixel by its position: exactly on the boundary,
    # or because the primary is wrong. The margin is not to blame.
    is_inside = healpy.ang2pix(1 << order, ra, dec, nest=True, lonlat=True) == pixel
    verdict[np.flatnonzero(is_other)[is_inside]] = UNDECIDED
    is_beyond = is_other & (verdict == BEYOND)
    if cell_order is not None:
        candidates = np.flatnonzero(is_beyond & (margin_count > 0))
        is_beyond[candidates] = ~_is_in_adjacent_cell(keys[candidates], order, pixel, cell_order)

    allowed = np.where(is_own, 0, np.where(is_known, primary_count, margin_count))
    duplicate_count = np.where(is_beyond, 0, np.maximum(margin_count - allowed, 0))
    lacking = np.maximum(primary_count - margin_count, 0)
    extra = np.repeat(np.arange(size), margin_count * is_beyond)
    beyond = (distance[extra] - threshold).tolist()

    # The same again for rows with the same key and values.
    value = _codes(code, rows["digest"])
    code_of_value = np.zeros(value.max(initial=-1) + 1, np.int64)
    code_of_value[value] = code
    expected = np.bincount(value[: len(primary)], minlength=len(code_of_value))
    excess = np.bincount(value[len(primary) :], minlength=len(code_of_value)) - expected
    # A duplicate with the right values is in excess too, but not changed.
    is_duplicate = (margin_count > primary_count)[code_of_value] & (expected > 0)
    is_changed = (is_other & ~is_beyond)[code_of_value] & ~is_duplicate & (excess > 0)
    changed = np.repeat(code_of_value[is_changed], excess[is_changed])

    index = keys["index"]
    return RowDefects(
        missing=sorted(np.repeat(index, np.where(verdict == WITHIN, lacking, 0)).tolist()),
        changed=sorted(index[changed].tolist()),
        foreign=sorted(np.repeat(index, np.where(is_known, 0, margin_count)).tolist()),
        duplicate=sorted(np.repeat(index, duplicate_count).tolist()),
        beyond=sorted(zip(index[extra].tolist(), beyond, strict=True)),
        undecided=int(primary_count[verdict == UNDECIDED].sum()),
    )


def row_codes(rows: Rows) -> Ints:
    """Return a number for each row, the same for rows with the same index and position."""
    return _codes(rows["index"], rows["ra"], rows["dec"])


def _codes(*columns: npt.NDArray[Any]) -> Ints:
    order = np.lexsort(columns)
    is_new = np.zeros(len(order), bool)
    for column in columns:
        values = column[order]
        is_new[1:] |= values[1:] != values[:-1]
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(is_new)
    return codes


def _is_in_adjacent_cell(rows: Rows, order: int, pixel: int, cell_order: int) -> Mask:
    """Return whether rows lie in cells that touch a pixel, or that overlap a pixel that does."""
    nside = 1 << cell_order
    cells = healpy.ang2pix(nside, rows["ra"], rows["dec"], nest=True, lonlat=True)
    neighbours = np.reshape(healpy.get_all_neighbours(nside, cells, nest=True), (8, -1))
    # healpy gives -1 where there is no neighbour, and -1 is in no pixel.
    if cell_order >= order:
        return np.asarray((neighbours >> 2 * (cell_order - order) == pixel).any(axis=0))
    return np.asarray((np.vstack([cells, neighbours]) == pixel >> 2 * (order - cell_order)).any(0))


def row_digests(
    table: pa.Table,
    columns: Sequence[str],
    rows: Ints | None = None,
    digests: Digests | None = None,
) -> Digests:
    """Return a number for the values of each row, which does not depend on other rows.

    ``rows`` are the positions of the rows that are wanted, None for all. The order of ``columns``
    matters; ``digests`` are those of the same rows in preceding columns.
    """
    if digests is None:
        digests = np.zeros(len(table) if rows is None else len(rows), np.uint64)
    for name in columns:
        column, positions = table[name], rows
        if positions is not None and len(positions) < len(table):
            with suppress(pa.ArrowNotImplementedError):  # for string_view
                column, positions = column.take(pa.array(positions)), None
        values = np.concatenate([np.empty(0, np.uint64), *map(_digests, column.chunks)])
        digests = _mix(digests + STEP) + (values if positions is None else values[positions])
    return digests


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that stands for all types of the same values, of any layout and width."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        key, value = plain_type(kind.key_type), plain_type(kind.item_type)
        return pa.large_list(pa.struct([pa.field("key", key, False), pa.field("value", value)]))
    if isinstance(kind, _LISTS):
        return pa.large_list(plain_type(kind.value_type))
    if pa.types.is_signed_integer(kind):
        return pa.int64()
    if pa.types.is_unsigned_integer(kind):
        return pa.uint64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_decimal(kind):
        return pa.decimal256(76, kind.scale)
    if kind in _STRINGS:
        return pa.large_string()
    if kind in _BINARIES or pa.types.is_fixed_size_binary(kind):
        return pa.large_binary()
    return kind


def _digests(values: pa.Array) -> Digests:
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _digests(values.storage)
    if pa.types.is_dictionary(kind):
        return _digests(values.dictionary_decode())
    if pa.types.is_map(kind):
        return _digests(values.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    if pa.types.is_null(kind):
        return np.full(len(values), NULL)
    if pa.types.is_struct(kind):
        digests = np.zeros(len(values), np.uint64)
        for field in values.flatten():
            digests = _mix(digests + STEP) + _digests(field)
    elif isinstance(kind, _LISTS):
        # Sums over the items, each mixed with its position in the list.
        lengths = pc.list_value_length(values).fill_null(0).to_numpy().astype(np.int64)
        ends, items = np.cumsum(lengths), _digests(values.flatten())
        positions = np.arange(len(items)) - np.repeat(ends - lengths, lengths)
        sums = np.append(np.uint64(0), np.cumsum(_mix(items + positions.astype(np.uint64) * STEP)))
        digests = _mix(sums[ends] - sums[ends - lengths] + lengths.astype(np.uint64) * STEP)
    else:
        digests = _mix(_single_digests(values.cast(plain_type(kind))))
    if not values.null_count:
        return digests
    return np.where(values.is_null().to_numpy(zero_copy_only=False), NULL, digests)


def _single_digests(values: pa.Array) -> Digests:
    """Return digests of values of a plain type, not nested; those of nulls do not matter."""
    kind = values.type
    if pa.types.is_decimal(kind):
        words = np.frombuffer(values.buffers()[1], np.uint64).reshape(-1, kind.bit_width // 64)
        words = words[values.offset : values.offset + len(values)]
        digests = np.zeros(len(words), np.uint64)
        for word in words.T:
            digests = _mix(digests + STEP) + word
        return digests
    if pa.types.is_temporal(kind):
        values = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not pa.types.is_primitive(kind):
        texts = values.cast(pa.large_binary()).fill_null(b"").to_numpy(zero_copy_only=False)
        return np.asarray(pd.util.hash_array(texts), np.uint64)
    numbers = values.fill_null(False if pa.types.is_boolean(kind) else 0)
    numbers = numbers.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind):
        numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0)  # -0 + 0 is 0
        return np.asarray(numbers).view(np.uint64)
    return np.asarray(numbers).astype(np.uint64)


def _mix(numbers: Digests) -> Digests:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * FACTORS[0]
    numbers = (numbers ^ (numbers >> np.uint64(27))) * FACTORS[1]
    return numbers ^ (numbers >> np.uint64(31))
