"""What is wrong with the rows that a margin has for a pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import healpy
import numpy as np
import pandas as pd

from margin_cache.audit.distance import INSIDE, OUTSIDE, judge_distances


@dataclass(frozen=True)
class Judgement:
    """The rows of a pixel's margin that are not as they should be.

    Attributes:
        missing: Spatial indexes of rows of the primary that the margin lacks.
        false: Spatial indexes of rows that should not be there, and how far beyond the threshold
            they are, in arcsec; NaN for rows of the pixel itself, and for rows that are not among
            those of the primary around it.
        double: Spatial indexes of rows that are there more than once.
        changed: Spatial indexes of rows with other values than in the primary.
    """

    missing: list[int]
    false: dict[int, float]
    double: list[int]
    changed: list[int]

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
    position: Sequence[str] = ("ra", "dec"),
) -> Judgement:
    """Compare a pixel's margin with the rows of the primary around it.

    Args:
        primary: Rows of the pixel's surroundings, by their spatial index, which rows may share.
        margin: The rows that the margin has for the pixel, by the same index.
        order: Order of the pixel.
        pixel: Its nested number.
        threshold: Arcsec.
        position: The columns of right ascension and declination, in degrees.
    """
    ra, dec = (primary[column].to_numpy(np.float64) for column in position)
    is_own = healpy.ang2pix(2**order, ra, dec, nest=True, lonlat=True) == pixel
    verdict, distance = judge_distances(ra, dec, order, pixel, threshold)
    expected = primary.index[~is_own & (verdict == INSIDE)].value_counts()
    known, found = primary.index.value_counts(), margin.index.value_counts()
    lacking = expected.sub(found.reindex(expected.index, fill_value=0))
    too_many = found.sub(known.reindex(found.index, fill_value=0))
    beyond = pd.Series(np.where(is_own, np.nan, distance - threshold), primary.index)
    is_false = primary.index.isin(found.index) & (is_own | (verdict == OUTSIDE))
    unknown = found.index.difference(known.index)
    known_rows = margin[~margin.index.isin(unknown)]
    return Judgement(
        missing=sorted(lacking.index[lacking > 0]),
        false=beyond[is_false].to_dict() | dict.fromkeys(unknown, np.nan),
        double=sorted(too_many.index[too_many > 0].difference(unknown)),
        changed=_changed(primary[primary.index.isin(found.index)], known_rows),
    )


def _changed(primary: pd.DataFrame, margin: pd.DataFrame) -> list[int]:
    shared = [column for column in margin.columns if column in primary.columns]
    there = set(zip(primary.index, _digests(primary[shared]), strict=True))
    rows = zip(margin.index, _digests(margin[shared]), strict=True)
    return sorted({key for key, digest in rows if (key, digest) not in there})


def _digests(rows: pd.DataFrame) -> list[int]:
    """A number for each row's values; lists and the like count as their text."""
    texts = {name: rows[name].map(repr) for name in rows if rows[name].dtype == object}
    hashed: list[int] = pd.util.hash_pandas_object(rows.assign(**texts), index=False).tolist()
    return hashed
