"""The rows of a margin are exactly those that belong in it, whatever the sky and the settings."""

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import numpy.typing as npt
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skies
from workflow_runs import run_workflow

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


# --- margins as sets of pairs ---------------------------------------------------------------


def pair_codes(sky: Sky, ids: Ints, destinations: Ints) -> Ints:
    """One integer per pair of a row's id and an index of a destination."""
    return ids * len(sky.destinations) + destinations


def margin_pairs(margin: Path, sky: Sky) -> Ints:
    """The pairs of a margin on disk, sorted; checks that each file is where its rows belong."""
    place_of = {tuple(pixel): at for at, pixel in enumerate(sky.destinations.tolist())}
    codes = [np.zeros(0, dtype=np.int64)]
    columns = ["id", "Norder", "Npix", "margin_Norder", "margin_Npix"]
    for file in sorted(margin.rglob("Npix=*.parquet")):
        rows = pq.ParquetFile(file).read(columns=columns)
        pixel = (int(file.parts[-3].removeprefix("Norder=")), int(file.stem.removeprefix("Npix=")))
        ids = rows["id"].to_numpy()
        assert set(rows["Norder"].to_pylist()) == {pixel[0]}, file
        assert set(rows["Npix"].to_pylist()) == {pixel[1]}, file
        sources = sky.partitions[sky.row_partition[sky.rows_of(ids)]]
        assert np.array_equal(sources[:, 0], rows["margin_Norder"].to_numpy()), file
        assert np.array_equal(sources[:, 1], rows["margin_Npix"].to_numpy()), file
        codes.append(pair_codes(sky, ids, np.full(len(ids), place_of[pixel])))
    return np.sort(np.concatenate(codes))


def true_pairs(sky: Sky, threshold: float) -> Truth:
    """The pairs that the oracle finds, sorted, and how many it calls ambiguous."""
    rows, destinations, ambiguous = oracle.brute_force_margin(
        *sky.position, sky.row_partition, sky.partitions, sky.destinations, threshold
    )
    ids = sky.table["id"].to_numpy()[rows]
    return np.sort(pair_codes(sky, ids, destinations)), len(ambiguous)


def without_ambiguous(sky: Sky, codes: Ints, threshold: float) -> Ints:
    """The pairs that are so far from the threshold that the oracle decides on them."""
    ids, places = np.divmod(codes, len(sky.destinations))
    rows = sky.rows_of(ids)
    lon, lat = sky.position
    distances = oracle.exact_distances(lon[rows], lat[rows], *sky.destinations[places].T)
    return codes[np.abs(distances - threshold) > oracle.AMBIGUOUS_ARCSEC]


def assert_exact(margin: Path, sky: Sky, threshold: float, known: Truth | None = None) -> None:
    found = margin_pairs(margin, sky)
    truth, ambiguous = known or true_pairs(sky, threshold)
    doubles = len(found) - len(np.unique(found))
    different_missing, different_false = np.setdiff1d(truth, found), np.setdiff1d(found, truth)
    missing = without_ambiguous(sky, different_missing, threshold)
    false = without_ambiguous(sky, different_false, threshold)
    excluded = len(different_missing) + len(different_false) - len(missing) - len(false)
    print(
        f"{margin.name}: {len(found)} rows, truth {len(truth)}, missing {len(missing)}, "
        f"false {len(false)}, double {doubles}; {ambiguous} ambiguous, {excluded} excluded"
    )
    assert len(truth) > 0 and not doubles
    assert not len(missing), np.divmod(missing[:5], len(sky.destinations))
    assert not len(false), np.divmod(false[:5], len(sky.destinations))


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A directory that `make` fills, once for all workers of a session."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    root = factory.getbasetemp().parent if shared else factory.getbasetemp()
    directory, failed, made = root / name, root / f"{name}.failed", root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if failed.exists():
            pytest.fail(f"{directory} could not be made, see the first test that uses it")
        if not made.exists():
            failed.touch()
            make(directory)
            failed.rename(made)
    return directory


# --- the large skies ------------------------------------------------------------------------


@cache
def large_sky(name: str) -> Sky:
    if name == "border":
        return Sky(*skies.border_sky())
    table = skies.survey_sky(columns=3)
    return Sky(table, skies.survey_partitions(table))


def make_truths(name: str, directory: Path) -> None:
    """Save the true pairs of a large sky, from the largest threshold down.

    A row within a threshold is also within the larger ones, so only those rows are asked about.
    """
    directory.mkdir()
    sky = large_sky(name)
    rows = np.arange(sky.table.num_rows)
    for threshold in sorted({*THRESHOLDS, *THRESHOLDS_OF_HATS}, reverse=True):
        few = Sky(sky.table.take(pa.array(rows)), sky.partitions)
        codes, ambiguous = true_pairs(few, threshold)
        np.savez(directory / f"{threshold:g}.npz", codes=codes, ambiguous=ambiguous)
        rows = sky.rows_of(np.unique(codes // len(sky.destinations)))


def truth_of(name: str, threshold: float, factory: pytest.TempPathFactory) -> Truth:
    directory = once(factory, f"truths_{name}", partial(make_truths, name))
    with np.load(directory / f"{threshold:g}.npz") as file:
        return file["codes"], int(file["ambiguous"])


def make_large_margins(name: str, directory: Path) -> None:
    sky = large_sky(name)
    table = skies.survey_sky() if name == "survey" else sky.table
    skies.write_hipscat(directory, name, table, sky.partitions)
    margins = [{"margin_threshold": threshold} for threshold in THRESHOLDS]
    config = {"input_catalog_path": name, "output_path": "margins", "margins": margins}
    # Three jobs of each kind a margin: more would only cost the time to start them.
    per_job = "auto" if name == "border" else 100
    run_workflow(directory, config={**config, "partitions_per_job": per_job}, check=True)
    shutil.rmtree(directory / name)  # 0.4 GB, which pytest would keep for three sessions


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("name", ["survey", "border"])
def test_rows_of_a_large_sky_are_those_of_brute_force(
    name: str, threshold: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = once(tmp_path_factory, name, lambda place: make_large_margins(name, place))
    sky = large_sky(name)
    if name == "survey":
        assert sky.table.num_rows == 2_000_000 and len(sky.partitions) == 288
    truth = truth_of(name, threshold, tmp_path_factory)
    assert_exact(directory / "margins" / f"{name}_{threshold:g}arcs", sky, threshold, truth)


# --- small skies ----------------------------------------------------------------------------

# Where the small partitions are: both poles, vertices of three base faces, a corner of four, and
# two places without symmetry; [ra, dec, order].
TARGETS = (
    (45.0, 89.9, 6),
    (225.0, -89.9, 4),
    (0.1, skies.VERTEX_DEC + 0.1, 6),
    (180.0, -skies.VERTEX_DEC + 0.1, 5),
    (45.0, 0.1, 6),
    (123.4, 5.6, 5),
    (250.0, -30.0, 3),
)
HOLES = ((300.0, 5.0, 0), (30.0, -30.0, 2), (46.0, 1.0, 4))


def pixels_at(points: tuple[tuple[float, float, int], ...]) -> Ints:
    return np.array(
        [
            [order, healpy.ang2pix(1 << order, ra, dec, nest=True, lonlat=True)]
            for ra, dec, order in points
        ]
    )


def mixed_partitions() -> Ints:
    """Partitions of orders 0 to 6 around some holes."""
    holes = pixels_at(HOLES)
    sphere = skies.refined_partitions(np.concatenate([pixels_at(TARGETS), holes]))
    return sphere[~skies.inside(skies.pixel_spans(sphere)[0], skies.nested_sort(holes))]


def sky_of(
    partitions: Ints, rows: int, farthest: float, seed: int, dtype: type = np.float64
) -> Sky:
    """Rows in partitions, 1e-4 to `farthest` arcsec from their borders and corners, and inside."""
    rng = np.random.default_rng(seed)
    chosen = partitions[np.arange(rows) % len(partitions)]
    u, v = rng.random((2, rows))
    group = rng.random(rows)
    v = np.where(group < 0.8, rng.integers(0, 2, rows), v)
    u = np.where(group < 0.3, rng.integers(0, 2, rows), u)
    swap = rng.random(rows) < 0.5
    at = skies.pixel_positions(chosen, np.where(swap, u, v), np.where(swap, v, u))
    distance = np.exp(rng.uniform(np.log(1e-4), np.log(farthest), rows)) * skies.ARCSEC
    ra, dec = (values.astype(dtype) for values in skies.offset_positions(*at, distance, rng))
    pixels = skies.nested_pixels(ra.astype(np.float64), dec.astype(np.float64))
    kept = skies.inside(pixels, partitions)
    ra, dec = ra[kept], dec[kept]
    return Sky(pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec}), partitions)


@cache
def small_skies() -> dict[str, Sky]:
    mixed, ninth = mixed_partitions(), pixels_at(((0.05, skies.VERTEX_DEC + 0.05, 9),))
    base = np.column_stack([np.zeros(12, dtype=np.int64), np.arange(12)])
    return {
        "mixed": sky_of(mixed, 5000, 2500.0, 1),
        "wide": sky_of(mixed, 2500, 60_000.0, 2),
        "tight": sky_of(mixed, 3000, 0.01, 3),
        "float32": sky_of(mixed, 3000, 200.0, 4, np.float32),
        "bare": sky_of(mixed, 2000, 100.0, 5),
        "plain": sky_of(mixed, 2000, 100.0, 6),
        "single": sky_of(base[4:5], 2000, 5000.0, 7),
        "base": sky_of(base, 3000, 5000.0, 8),
        "ninth": sky_of(ninth, 500, 100.0, 9),
    }


def write_small_sky(directory: Path, name: str, sky: Sky) -> None:
    skies.write_hipscat(
        directory, name, sky.table, sky.partitions, index_is_pandas_index=name != "plain"
    )
    if name == "bare":
        for file in ("_metadata", "_common_metadata", "partition_info.csv"):
            (directory / name / file).unlink()


def partitions_at(*places: tuple[float, float]) -> list[list[int]]:
    """The partitions of the mixed sky at (ra, dec)."""
    partitions = mixed_partitions()
    starts = skies.pixel_spans(partitions)[0]
    pixels = [healpy.ang2pix(1 << 19, *place, nest=True, lonlat=True) for place in places]
    return partitions[np.searchsorted(starts, pixels, side="right") - 1].tolist()


# One at a pole, four around a vertex of three base faces, one alone.
CHOSEN = partitions_at(
    (45.0, 89.9),
    (0.1, skies.VERTEX_DEC + 0.1),
    (359.9, skies.VERTEX_DEC + 0.1),
    (0.1, skies.VERTEX_DEC - 0.2),
    (0.1, skies.VERTEX_DEC + 1.5),
    (123.4, 5.6),
)

# Name of a margin: its sky, threshold, and other settings.
FINE: dict[str, tuple[str, float, dict[str, Any]]] = {
    "float32": ("float32", 60.0, {}),
    "no_metadata_files": ("bare", 30.0, {}),
    "no_pandas_metadata": ("plain", 30.0, {}),
    "single_partition": ("single", 1800.0, {}),
    "base_pixels": ("base", 1800.0, {}),
    "one_of_order_9": ("ninth", 60.0, {}),
    "wider_than_one_of_order_9": ("ninth", 1800.0, {}),
    "ten_degrees": ("wide", 36_000.0, {}),
    "thousandth": ("tight", 0.001, {}),
    "some_partitions": ("mixed", 600.0, {"debug_filter_pixel_list": CHOSEN}),
    "order_auto": ("mixed", 10.0, {}),
    "order_0": ("mixed", 10.0, {"margin_order": 0}),
    "order_3": ("mixed", 10.0, {"margin_order": 3}),
    "order_11": ("mixed", 10.0, {"margin_order": 11}),
}
COARSE: dict[str, tuple[str, float, dict[str, Any]]] = {
    "cells_auto": ("mixed", 10.0, {}),
    "cells_auto_of_some": ("mixed", 600.0, {"debug_filter_pixel_list": CHOSEN}),
    "cells_auto_wide": ("wide", 36_000.0, {}),
    **{f"cells_{order}": ("mixed", 10.0, {"margin_order": order}) for order in (0, 2, 4, 9)},
}


def make_small_margins(directory: Path) -> None:
    for name, sky in small_skies().items():
        write_small_sky(directory, name, sky)
    margins = [
        {
            "output_artifact_name": margin,
            "input_catalog_path": name,
            "margin_threshold": threshold,
            "fine_filtering": margin in FINE,
            **options,
        }
        for margin, (name, threshold, options) in (FINE | COARSE).items()
    ]
    config = {"output_path": "margins", "margins": margins}
    run_workflow(directory, config=config, check=True)


@pytest.fixture(scope="module")
def small_margins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "small", make_small_margins) / "margins"


def sky_of_margin(margin: str) -> Sky:
    name, _, options = (FINE | COARSE)[margin]
    sky = small_skies()[name]
    chosen = options.get("debug_filter_pixel_list")
    return sky.restricted(chosen) if chosen else sky


def test_small_skies_have_what_they_are_for() -> None:
    partitions = mixed_partitions()
    assert set(partitions[:, 0].tolist()) == set(range(7))
    assert 1500 < small_skies()["wide"].table.num_rows < 2500
    assert len({tuple(pixel) for pixel in CHOSEN}) == 6 and len({k for k, _ in CHOSEN}) > 2
    assert small_skies()["float32"].table.schema.field("ra").type == pa.float32()
    assert len(small_skies()["ninth"].destinations) > 35


@pytest.mark.parametrize("margin", FINE)
def test_rows_of_a_small_sky_are_those_of_brute_force(margin: str, small_margins: Path) -> None:
    assert_exact(small_margins / margin, sky_of_margin(margin), FINE[margin][1])


@pytest.mark.parametrize("margin", ["order_0", "order_3", "order_11"])
def test_order_of_the_coarse_filter_does_not_change_the_rows(
    margin: str, small_margins: Path
) -> None:
    auto, explicit = (
        {
            file.relative_to(small_margins / name): pq.ParquetFile(file).read()
            for file in (small_margins / name).rglob("Npix=*.parquet")
        }
        for name in ("order_auto", margin)
    )
    assert len(auto) > 10
    assert auto == explicit


def finest_margin_order(threshold: float) -> int:
    """The order that margin_order: -1 stands for, as the documentation has it."""
    orders = np.arange(20)
    thickness = healpy.nside2resol(2**orders) / skies.ARCSEC / 1.6
    return int(orders[thickness >= threshold].max())


def cell_pairs(sky: Sky, order: int) -> Ints:
    """Pairs of a row and a destination that overlaps the row's cell or one of its neighbours."""
    lon, lat = sky.position
    cell = healpy.ang2pix(1 << order, lon, lat, nest=True, lonlat=True)
    around = healpy.get_all_neighbours(1 << order, cell, nest=True).T
    codes = []
    for place, (depth, pixel) in enumerate(sky.destinations.tolist()):
        up, down = 2 * max(depth - order, 0), 2 * max(order - depth, 0)
        cells = np.column_stack([cell, around])
        touching = ((cells >= 0) & (cells >> down == pixel >> up)).any(axis=1)
        touching &= sky.row_partition != place  # the partitions are the first destinations
        codes.append(pair_codes(sky, sky.table["id"].to_numpy()[touching], place))
    return np.sort(np.concatenate(codes))


@pytest.mark.parametrize("margin", COARSE)
def test_without_fine_filter_rows_are_those_of_adjacent_cells(
    margin: str, small_margins: Path
) -> None:
    _, threshold, options = COARSE[margin]
    sky = sky_of_margin(margin)
    expected = cell_pairs(sky, options.get("margin_order", finest_margin_order(threshold)))
    found = margin_pairs(small_margins / margin, sky)
    print(f"{margin}: {len(found)} rows")
    assert len(found) > 0
    np.testing.assert_array_equal(found, expected)
