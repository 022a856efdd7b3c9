"""What is wrong with the rows that a margin has for a pixel."""

from dataclasses import dataclass

import healpy
import numpy as np
import numpy.typing as npt
import pandas as pd

from margin_cache.audit.distance import INSIDE, OUTSIDE, UNDECIDED, judge_distances, near_boundary

KEY = ["index", "ra", "dec"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judgement:
    """The rows of a pixel's margin that are not as they should be; several may share an index.

    Attributes:
        missing: Spatial indexes of rows of the primary that the margin lacks.
        false: Those of rows that should not be there, each with how far beyond the threshold it is,
            in arcsec; NaN for rows of the pixel itself, and for rows that are not among those of
            the primary around it.
        double: Those of rows that are there more often than in the primary.
        changed: Those of rows with other values than in the primary.
        undecided: How many rows are nearer to the threshold than the error of their distance. They
            may be there or not.
    """

    missing: list[int]
    false: list[tuple[int, float]]
    double: list[int]
    changed: list[int]
    undecided: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.false or self.double or self.changed)


def judge_pixel(
    primary: pd.DataFrame,
    margin: pd.DataFrame,
    order: int,
    pixel: int,
    threshold: float,
    cell_order: int | None = None,
) -> Judgement:
    """Compare a pixel's margin with the rows of the primary around it.

    Rows are the same if they have the same index and position; of such rows, there must be as many
    as in the primary.

    Args:
        primary: Rows of the pixel's surroundings: `index`, `ra` and `dec` in degrees, `own` for
            those of the pixel's own partition, `digest` for the values of those that have an index
            that the margin has.
        margin: The rows that the margin has for the pixel: `index`, `ra`, `dec` and `digest`.
        order: Order of the pixel.
        pixel: Its nested number.
        threshold: Arcsec.
        cell_order: Order of the cells of a coarse margin, which may have the rows of all cells that
            touch the pixel; None for an exact one.
    """
    is_in_margin = primary["index"].isin(margin["index"]).to_numpy()
    ra, dec = primary["ra"].to_numpy(), primary["dec"].to_numpy()
    kept = is_in_margin | near_boundary(ra, dec, order, pixel, threshold)
    primary, is_in_margin = primary[kept], is_in_margin[kept]
    keys = pd.concat([primary[KEY], margin[KEY]])
    code = keys.groupby(KEY, dropna=False, sort=False).ngroup().to_numpy()
    here, there = code[: len(primary)], code[len(primary) :]
    number = code.max(initial=-1) + 1
    known, found = np.bincount(here, minlength=number), np.bincount(there, minlength=number)
    verdict, beyond = np.full(number, OUTSIDE), np.full(number, np.nan)
    verdict[here], beyond[here] = _judge_rows(primary, order, pixel, threshold)
    index = keys["index"].to_numpy()[np.unique(code, return_index=True)[1]]
    is_false = (verdict == OUTSIDE) & (found > 0)
    if cell_order is not None:
        positions = keys.iloc[np.unique(code, return_index=True)[1]]
        is_own = np.bincount(here, primary["own"], number) > 0
        is_false &= is_own | (known == 0) | ~_is_beside(positions, order, pixel, cell_order)
    lacking = np.where(verdict == INSIDE, np.maximum(known - found, 0), 0)
    too_many = np.where(is_false, 0, np.maximum(found - known, 0))
    changed = _changed(
        pd.DataFrame({"code": here, "digest": primary["digest"].to_numpy()})[is_in_margin],
        pd.DataFrame({"code": there, "digest": margin["digest"].to_numpy()}),
        known,
        found,
    )
    missing, false = np.repeat(index, lacking), np.repeat(np.arange(number), found * is_false)
    moved = _moved(missing, index[false[known[false] == 0]])
    return Judgement(
        missing=sorted(map(int, _without(missing, moved))),
        false=_without_moved(index[false], beyond[false], known[false] == 0, moved),
        double=sorted(map(int, np.repeat(index, too_many))),
        changed=sorted([*map(int, index[changed]), *moved]),
        undecided=int(known[verdict == UNDECIDED].sum()),
    )


def _judge_rows(
    rows: pd.DataFrame, order: int, pixel: int, threshold: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The verdict on each row, and how far it is beyond the threshold, in arcsec."""
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    verdict, distance = judge_distances(ra, dec, order, pixel, threshold)
    own = rows["own"].to_numpy(bool)
    # By its position a row may be in the pixel, and by its file beside it: at the very border, or
    # because the primary itself is wrong. That is no margin's fault.
    verdict[healpy.ang2pix(1 << order, ra, dec, nest=True, lonlat=True) == pixel] = UNDECIDED
    verdict[own] = OUTSIDE
    return verdict, np.where(own, np.nan, distance - threshold)


def _is_beside(rows: pd.DataFrame, order: int, pixel: int, cell_order: int) -> Mask:
    """Whether rows lie in cells that touch a pixel from outside."""
    if cell_order < order:
        return np.zeros(len(rows), bool)
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    nside = 1 << cell_order
    cells = healpy.ang2pix(nside, ra, dec, nest=True, lonlat=True)
    beside = np.reshape(healpy.get_all_neighbours(nside, cells, nest=True), (8, -1))
    # Where there is none, healpy says -1, which is in no pixel.
    return np.asarray((beside >> 2 * (cell_order - order) == pixel).any(axis=0))


def _changed(
    primary: pd.DataFrame,
    margin: pd.DataFrame,
    known: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """The codes of rows that the primary has with other values; as often as they have them."""
    margin = margin[known[margin["code"]] > 0]
    wanted = primary.value_counts()
    there = margin.value_counts()
    has = wanted.reindex(there.index, fill_value=0).to_numpy()
    code = there.index.get_level_values("code").to_numpy()
    excess = np.maximum(there.to_numpy() - has, 0)
    # A double row exceeds with the right values too.
    return np.asarray(np.repeat(code, np.where((found > known)[code] & (has > 0), 0, excess)))


def _moved(missing: npt.NDArray[np.uint64], unknown: npt.NDArray[np.uint64]) -> list[int]:
    """Indexes of rows that are missing, and there with another position."""
    both = pd.Series(missing).value_counts().to_frame("missing")
    both["unknown"] = pd.Series(unknown).value_counts().reindex(both.index, fill_value=0)
    return [int(index) for index in np.repeat(both.index, both.min(axis=1).astype(int))]


def _without(values: npt.NDArray[np.uint64], taken: list[int]) -> list[int]:
    left = [int(value) for value in values]
    for value in taken:
        left.remove(value)
    return left


def _without_moved(
    index: npt.NDArray[np.uint64],
    beyond: npt.NDArray[np.float64],
    is_unknown: Mask,
    moved: list[int],
) -> list[tuple[int, float]]:
    rows = list(zip(map(int, index), map(float, beyond), map(bool, is_unknown), strict=True))
    for value in moved:
        rows.remove(next(row for row in rows if row[0] == value and row[2]))
    return sorted((value, far) for value, far, _ in rows)
