"""Compares the rows that a margin has for a pixel with those that it should have."""

from collections.abc import Sequence
from dataclasses import dataclass

import healpy
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from margin_cache.audit.distance import (
    BEYOND,
    UNDECIDED,
    WITHIN,
    compare_distances,
    near_boundary,
)

KEY = ["index", "ra", "dec"]
DIGEST_FACTOR = np.uint64(1_000_003)

Mask = npt.NDArray[np.bool_]
Digests = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class RowDefects:
    """The spatial indexes of the rows of one pixel that are wrong; several rows may share one.

    Attributes:
        missing: Rows of the primary that the margin lacks.
        extra: Rows that should not be in the margin, each with its distance beyond the threshold in
            arcsec. The distance is NaN for rows of the pixel itself, and for rows that the primary
            does not have near the pixel.
        duplicate: Rows that occur more often than in the primary.
        changed: Rows with other values or another position than in the primary.
        undecided: Number of rows that are nearer to the threshold than the error of their distance.
            The margin may contain them or not.
    """

    missing: list[int]
    extra: list[tuple[int, float]]
    duplicate: list[int]
    changed: list[int]
    undecided: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.extra or self.duplicate or self.changed)


def compare_rows(
    primary: pd.DataFrame,
    margin: pd.DataFrame,
    order: int,
    pixel: int,
    threshold: float,
    cell_order: int | None = None,
) -> RowDefects:
    """Compare a pixel's margin with the rows of the primary near the pixel.

    Rows are the same if they have the same index and position. The margin must contain as many of
    these as the primary.

    Args:
        primary: Rows of the primary near the pixel: `index`, `ra` and `dec` in degrees, `own` for
            rows of the pixel's own partition, and `digest` of the values, which is needed only for
            rows whose index occurs in the margin.
        margin: Rows of the pixel's margin: `index`, `ra`, `dec` and `digest`.
        order: Order of the pixel.
        pixel: Nested number of the pixel.
        threshold: Arcsec.
        cell_order: Order of the cells of a coarse margin, which may contain all rows of the cells
            that touch the pixel; None for an exact margin.
    """
    is_in_margin = primary["index"].isin(margin["index"]).to_numpy()
    ra, dec = primary["ra"].to_numpy(), primary["dec"].to_numpy()
    is_relevant = is_in_margin | near_boundary(ra, dec, order, pixel, threshold)
    primary, is_in_margin = primary[is_relevant], is_in_margin[is_relevant]

    # Rows with the same key get the same code; all arrays below are indexed by code.
    keys = pd.concat([primary[KEY], margin[KEY]])
    code = keys.groupby(KEY, dropna=False, sort=False).ngroup().to_numpy()
    primary_code, margin_code = code[: len(primary)], code[len(primary) :]
    size = code.max(initial=-1) + 1
    primary_count = np.bincount(primary_code, minlength=size)
    margin_count = np.bincount(margin_code, minlength=size)
    keys = keys.iloc[np.unique(code, return_index=True)[1]]
    index = keys["index"].to_numpy()
    verdict, beyond = np.full(size, BEYOND), np.full(size, np.nan)
    verdict[primary_code], beyond[primary_code] = _row_verdicts(primary, order, pixel, threshold)

    is_extra = (verdict == BEYOND) & (margin_count > 0)
    if cell_order is not None:
        is_own = np.bincount(primary_code, primary["own"], size) > 0
        is_adjacent = _is_in_adjacent_cell(keys, order, pixel, cell_order)
        is_extra &= is_own | (primary_count == 0) | ~is_adjacent
    missing_count = np.where(verdict == WITHIN, np.maximum(primary_count - margin_count, 0), 0)
    duplicate_count = np.where(is_extra, 0, np.maximum(margin_count - primary_count, 0))
    changed = _changed_codes(
        pd.DataFrame({"code": primary_code, "digest": primary["digest"].to_numpy()})[is_in_margin],
        pd.DataFrame({"code": margin_code, "digest": margin["digest"].to_numpy()}),
        primary_count,
        margin_count,
    )
    missing = np.repeat(index, missing_count)
    extra = np.repeat(np.arange(size), margin_count * is_extra)
    is_unknown = primary_count[extra] == 0
    moved = _moved_rows(missing, index[extra[is_unknown]])
    return RowDefects(
        missing=sorted(_without(missing.tolist(), moved)),
        extra=_extra_rows(index[extra], beyond[extra], is_unknown, moved),
        duplicate=sorted(np.repeat(index, duplicate_count).tolist()),
        changed=sorted([*index[changed].tolist(), *moved]),
        undecided=int(primary_count[verdict == UNDECIDED].sum()),
    )


def _row_verdicts(
    rows: pd.DataFrame, order: int, pixel: int, threshold: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return WITHIN, BEYOND or UNDECIDED for each row, and its arcsec beyond the threshold."""
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    verdict, distance = compare_distances(ra, dec, order, pixel, threshold)
    is_own = rows["own"].to_numpy(bool)
    # A row of another partition may lie inside the pixel by its position: exactly on the boundary,
    # or because the primary is wrong. The margin is not to blame.
    verdict[healpy.ang2pix(1 << order, ra, dec, nest=True, lonlat=True) == pixel] = UNDECIDED
    verdict[is_own] = BEYOND
    return verdict, np.where(is_own, np.nan, distance - threshold)


def _is_in_adjacent_cell(rows: pd.DataFrame, order: int, pixel: int, cell_order: int) -> Mask:
    """Return whether rows lie in cells that touch a pixel from outside."""
    if cell_order < order:
        return np.zeros(len(rows), bool)
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    nside = 1 << cell_order
    cells = healpy.ang2pix(nside, ra, dec, nest=True, lonlat=True)
    neighbours = np.reshape(healpy.get_all_neighbours(nside, cells, nest=True), (8, -1))
    # healpy gives -1 where there is no neighbour, and -1 is in no pixel.
    return np.asarray((neighbours >> 2 * (cell_order - order) == pixel).any(axis=0))


def _changed_codes(
    primary: pd.DataFrame,
    margin: pd.DataFrame,
    primary_count: npt.NDArray[np.int64],
    margin_count: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the code of each row of the margin whose values the primary does not have."""
    margin_rows = margin[primary_count[margin["code"]] > 0].value_counts()
    expected = primary.value_counts().reindex(margin_rows.index, fill_value=0).to_numpy()
    code = margin_rows.index.get_level_values("code").to_numpy()
    excess = np.maximum(margin_rows.to_numpy() - expected, 0)
    # A duplicate with the right values is in excess too, but not changed.
    is_duplicate = (margin_count > primary_count)[code] & (expected > 0)
    return np.asarray(np.repeat(code, np.where(is_duplicate, 0, excess)))


def _moved_rows(missing: npt.NDArray[np.uint64], unknown: npt.NDArray[np.uint64]) -> list[int]:
    """Return the indexes of missing rows that are in the margin with another position."""
    counts = pd.Series(missing).value_counts().to_frame("missing")
    counts["unknown"] = pd.Series(unknown).value_counts().reindex(counts.index, fill_value=0)
    return np.repeat(counts.index, counts.min(axis=1).astype(int)).tolist()


def _without(values: list[int], removed: list[int]) -> list[int]:
    for value in removed:
        values.remove(value)
    return values


def _extra_rows(
    index: npt.NDArray[np.uint64],
    beyond: npt.NDArray[np.float64],
    is_unknown: Mask,
    moved: list[int],
) -> list[tuple[int, float]]:
    """Return the extra rows without those that are moved."""
    rows = list(zip(index.tolist(), beyond.tolist(), is_unknown.tolist(), strict=True))
    for value in moved:
        rows.remove(next(row for row in rows if row[0] == value and row[2]))
    return sorted((value, arcsec) for value, arcsec, _ in rows)


def row_digests(table: pa.Table, columns: Sequence[str]) -> Digests:
    """Return a number for the values of each row; equal values give equal numbers, NaN too.

    The number does not depend on other rows: whether a column has nulls elsewhere does not matter,
    though pandas has other types for these columns.
    """
    digests = np.zeros(len(table), np.uint64)
    for name in columns:
        digests = digests * DIGEST_FACTOR + _column_digests(table[name].combine_chunks())
    return digests


def _column_digests(column: pa.Array) -> Digests:
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = column.fill_null(kind.to_pandas_dtype()(0)).to_numpy(zero_copy_only=False)
        digests = np.asarray(pd.util.hash_array(np.where(values != values, np.nan, values)))
        return digests + np.asarray(column.is_null()).astype(np.uint64)
    column = column.cast(_python_type(kind))
    texts = np.array([repr(value) for value in column.to_pylist()], object)
    return np.asarray(pd.util.hash_array(texts), np.uint64)


def _python_type(kind: pa.DataType) -> pa.DataType:
    """Return a type that Python can represent: its dates end in 9999, its text is valid UTF-8."""
    if pa.types.is_dictionary(kind):
        return _python_type(kind.value_type)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_python_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_python_type(field.type)) for field in kind])
    return kind
