"""Compares the rows that a margin has for a pixel with those that it should have."""

from dataclasses import dataclass

import healpy
import numpy as np
import numpy.typing as npt
import pandas as pd

from margin_cache.audit.distance import (
    BEYOND,
    UNDECIDED,
    WITHIN,
    compare_distances,
    near_boundary,
)

KEY = ["index", "ra", "dec"]

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowDefects:
    """The spatial indexes of the wrong rows of one pixel, by the kinds of `verdict.KINDS`.

    Several rows may share an index. A row whose index or position was changed is missing, and
    foreign. Rows of the pixel's own partition, which has them already, are duplicates. Rows beyond
    the threshold have their distance beyond it, in arcsec; in a coarse margin, they are also beyond
    its cells. ``undecided`` is the number of rows that are nearer to the threshold than the error
    of their distance: the margin may contain them or not.
    """

    missing: list[int]
    changed: list[int]
    foreign: list[int]
    duplicate: list[int]
    beyond: list[tuple[int, float]]
    undecided: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.changed or self.foreign or self.duplicate or self.beyond)


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

    ``primary`` has the rows near the pixel, and those farther away whose index occurs in the
    margin: `index`, `ra` and `dec` in degrees, `own` for rows of the pixel's own partition, and
    `digest` of the values, which is needed only for rows whose index occurs in the margin.
    ``margin`` has `index`, `ra`, `dec` and `digest`. The threshold is in arcsec. ``cell_order`` is
    that of the cells of a coarse margin, which may contain all rows of the cells that touch the
    pixel; None for an exact margin.
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
    is_known, is_own = primary_count > 0, np.bincount(primary_code, primary["own"], size) > 0
    is_beyond = is_known & ~is_own & (verdict == BEYOND)
    if cell_order is not None:
        candidates = np.flatnonzero(is_beyond & (margin_count > 0))
        is_beyond[candidates] = ~_is_in_adjacent_cell(
            keys.iloc[candidates], order, pixel, cell_order
        )
    allowed = np.where(is_own, 0, np.where(is_known, primary_count, margin_count))
    duplicate_count = np.where(is_beyond, 0, np.maximum(margin_count - allowed, 0))
    is_needed = ~is_own & (verdict == WITHIN)
    missing_count = np.where(is_needed, np.maximum(primary_count - margin_count, 0), 0)
    changed = _changed_codes(
        pd.DataFrame({"code": primary_code, "digest": primary["digest"].to_numpy()})[is_in_margin],
        pd.DataFrame({"code": margin_code, "digest": margin["digest"].to_numpy()}),
        primary_count,
        margin_count,
    )
    changed = changed[~(is_beyond | is_own)[changed]]
    extra = np.repeat(np.arange(size), margin_count * is_beyond)
    return RowDefects(
        missing=sorted(np.repeat(index, missing_count).tolist()),
        changed=sorted(index[changed].tolist()),
        foreign=sorted(np.repeat(index, np.where(is_known, 0, margin_count)).tolist()),
        duplicate=sorted(np.repeat(index, duplicate_count).tolist()),
        beyond=sorted(zip(index[extra].tolist(), beyond[extra].tolist(), strict=True)),
        undecided=int(primary_count[verdict == UNDECIDED].sum()),
    )


def _row_verdicts(
    rows: pd.DataFrame, order: int, pixel: int, threshold: float
) -> tuple[Ints, npt.NDArray[np.float64]]:
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
    """Return whether rows lie in cells that touch a pixel, or that overlap a pixel that does."""
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    nside = 1 << cell_order
    cells = healpy.ang2pix(nside, ra, dec, nest=True, lonlat=True)
    neighbours = np.reshape(healpy.get_all_neighbours(nside, cells, nest=True), (8, -1))
    # healpy gives -1 where there is no neighbour, and -1 is in no pixel.
    if cell_order >= order:
        return np.asarray((neighbours >> 2 * (cell_order - order) == pixel).any(axis=0))
    return np.asarray((np.vstack([cells, neighbours]) == pixel >> 2 * (order - cell_order)).any(0))


def _changed_codes(
    primary: pd.DataFrame, margin: pd.DataFrame, primary_count: Ints, margin_count: Ints
) -> Ints:
    """Return the code of each row of the margin whose values the primary does not have."""
    margin_rows = margin[primary_count[margin["code"]] > 0].value_counts()
    expected = primary.value_counts().reindex(margin_rows.index, fill_value=0).to_numpy()
    code = margin_rows.index.get_level_values("code").to_numpy()
    excess = np.maximum(margin_rows.to_numpy() - expected, 0)
    # A duplicate with the right values is in excess too, but not changed.
    is_duplicate = (margin_count > primary_count)[code] & (expected > 0)
    return np.asarray(np.repeat(code, np.where(is_duplicate, 0, excess)))
