"""The rows of a margin are exactly those that belong in it, whatever the sky and the settings."""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import skies, sky_catalogs
from support.faulty_margins import make_in
from support.once import once
from support.small_skies import mixed_partitions, pixels_at, sky_of
from support.truth import (
    THRESHOLDS,
    Ints,
    Sky,
    Truth,
    large_sky,
    pair_codes,
    true_pairs,
    truth_of,
    without_ambiguous,
)
from support.workflow_runs import run_workflow
from support.write_hipscat import write_hipscat

# --- margins as sets of pairs ---------------------------------------------------------------


def margin_pairs(margin: Path, sky: Sky) -> Ints:
    """The pairs of a margin on disk, sorted; checks that each file is where its rows belong."""
    output_of = {tuple(pixel): at for at, pixel in enumerate(sky.destinations.tolist())}
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
        codes.append(pair_codes(sky, ids, np.full(len(ids), output_of[pixel])))
    return np.sort(np.concatenate(codes))


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


# --- the large skies ------------------------------------------------------------------------


def make_large_margins(name: str, directory: Path) -> None:
    sky = large_sky(name)
    table = sky_catalogs.survey_sky() if name == "survey" else sky.table
    write_hipscat(directory, name, table, sky.partitions)
    margins = [{"margin_threshold": threshold} for threshold in THRESHOLDS]
    config = {"input_catalog_path": name, "output_path": "margins", "margins": margins}
    # Three jobs of each kind a margin: more would only cost the time to start them.
    per_job = "auto" if name == "border" else 100
    run_workflow(directory, config={**config, "partitions_per_job": per_job}, check=True)
    shutil.rmtree(directory / name)  # 0.4 GB, which pytest would keep for three sessions


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("name", [pytest.param("survey", marks=pytest.mark.long), "border"])
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


@cache
def small_skies() -> dict[str, Sky]:
    mixed, ninth = mixed_partitions(), pixels_at(((0.05, sky_catalogs.VERTEX_DEC + 0.05, 9),))
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
    write_hipscat(directory, name, sky.table, sky.partitions, index_is_pandas_index=name != "plain")
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
    (0.1, sky_catalogs.VERTEX_DEC + 0.1),
    (359.9, sky_catalogs.VERTEX_DEC + 0.1),
    (0.1, sky_catalogs.VERTEX_DEC - 0.2),
    (0.1, sky_catalogs.VERTEX_DEC + 1.5),
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
    "cells_auto_wide": ("base", 36_000.0, {}),
    **{f"cells_{order}": ("mixed", 10.0, {"margin_order": order}) for order in (7, 9, 12)},
}


THROUGH_WORKFLOW = ("some_partitions", "order_auto", "cells_auto")


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
    # A few go through the workflow, and all others only through its functions.
    whole = [margin for margin in margins if margin["output_artifact_name"] in THROUGH_WORKFLOW]
    others = [margin for margin in margins if margin not in whole]
    run_workflow(directory, config={"output_path": "margins", "margins": whole}, check=True)
    make_in(directory, {"output_path": "margins", "margins": others})


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
