"""Skies, and the rows that the oracle finds in their margins."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from support import oracle, skies, sky_catalogs
from support.once import once

THRESHOLDS = (0.05, 1.0, 10.0, 60.0, 1800.0)
THRESHOLDS_OF_HATS = (0.5, 10.0, 600.0)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Truth = tuple[Ints, int]


@dataclass(frozen=True)
class Sky:
    """Rows, whose ids are their indices, and the partitions they are in.

    Attributes:
        table: id, ra and dec [deg].
        partitions: [order, pixel], in nested order, shape (n, 2).
    """

    table: pa.Table
    partitions: Ints

    @cached_property
    def position(self) -> tuple[Floats, Floats]:
        return tuple(self.table[name].to_numpy().astype(np.float64) for name in ("ra", "dec"))

    @cached_property
    def row_partition(self) -> Ints:
        starts = skies.pixel_spans(self.partitions)[0]
        return np.searchsorted(starts, skies.nested_pixels(*self.position), side="right") - 1

    @cached_property
    def destinations(self) -> Ints:
        return np.concatenate([self.partitions, oracle.negative_pixels(self.partitions)])

    def rows_of(self, ids: Ints) -> Ints:
        return np.searchsorted(self.table["id"].to_numpy(), ids)

    def restricted(self, chosen: list[list[int]]) -> "Sky":
        """The sky with some of the partitions only; rows keep their ids."""
        kept = np.isin(skies.pixel_keys(self.partitions), skies.pixel_keys(np.array(chosen)))
        rows = np.flatnonzero(kept[self.row_partition])
        return Sky(self.table.take(pa.array(rows)), self.partitions[kept])


def pair_codes(sky: Sky, ids: Ints, destinations: Ints) -> Ints:
    """One integer per pair of a row's id and an index of a destination."""
    return ids * len(sky.destinations) + destinations


def true_pairs(sky: Sky, threshold: float) -> Truth:
    """The pairs that the oracle finds, sorted, and how many it calls ambiguous."""
    return truths_at(sky, [threshold])[0]


def truths_at(sky: Sky, thresholds: Sequence[float]) -> list[Truth]:
    """The true pairs for each of several thresholds, which takes little more time than one."""
    ids = sky.table["id"].to_numpy()
    return [
        (np.sort(pair_codes(sky, ids[rows], destinations)), len(ambiguous))
        for rows, destinations, ambiguous in oracle.brute_force_margins(
            *sky.position, sky.row_partition, sky.partitions, sky.destinations, thresholds
        )
    ]


def without_ambiguous(sky: Sky, codes: Ints, threshold: float) -> Ints:
    """The pairs that are so far from the threshold that the oracle decides on them."""
    ids, places = np.divmod(codes, len(sky.destinations))
    rows = sky.rows_of(ids)
    lon, lat = sky.position
    distances = oracle.exact_distances(lon[rows], lat[rows], *sky.destinations[places].T)
    return codes[np.abs(distances - threshold) > oracle.AMBIGUOUS_ARCSEC]


@cache
def large_sky(name: str) -> Sky:
    if name == "border":
        return Sky(*sky_catalogs.border_sky(rows=20_000))
    table = sky_catalogs.survey_sky(columns=3)
    return Sky(table, sky_catalogs.survey_partitions(table))


def make_truths(name: str, directory: Path) -> None:
    """Save the true pairs of a large sky, for all thresholds."""
    directory.mkdir()
    sky = large_sky(name)
    thresholds = sorted({*THRESHOLDS, *THRESHOLDS_OF_HATS})
    for threshold, (codes, ambiguous) in zip(thresholds, truths_at(sky, thresholds), strict=True):
        np.savez(directory / f"{threshold:g}.npz", codes=codes, ambiguous=ambiguous)


def truth_of(name: str, threshold: float, factory: pytest.TempPathFactory) -> Truth:
    directory = once(factory, f"truths_{name}", partial(make_truths, name))
    with np.load(directory / f"{threshold:g}.npz") as file:
        return file["codes"], int(file["ambiguous"])
