"""Without the fine filter, a margin has exactly the rows that hats-import writes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.healpix.nested import ARCSEC_PER_RADIAN, finest_margin_order
from support import skies, sky_catalogs
from support.margins import partition_paths
from support.peers import PEERS, peer_python, run
from support.small_skies import mixed_partitions, sky_of
from support.workflow_runs import run_workflow
from support.write_hats import write_hats

Pixel = tuple[int, int]


@pytest.fixture(scope="module")
def python() -> Path:
    return peer_python("hats-import")


def holed_sky() -> tuple[pa.Table, skies.IntArray, float]:
    """Partitions of orders 0 to 6 at the poles and around holes; for 600 arcsec."""
    sky = sky_of(mixed_partitions(), 15_000, 5000.0, 31)
    return sky.table, sky.partitions, 600.0


def survey_sky() -> tuple[pa.Table, skies.IntArray, float]:
    """A thin survey of the whole sphere; for 3600 arcsec."""
    table = sky_catalogs.survey_sky(30_000, 4, 2)
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    return table, skies.adaptive_partitions(ra, dec, max_rows=600, min_order=1), 3600.0


SKIES = {"holed": holed_sky, "survey": survey_sky}


def rows_of(margin: Path) -> dict[Pixel, list[int]]:
    """The ids in each file of a margin, ascending."""
    found = {}
    for file in partition_paths(margin):
        order, pixel = file.parts[-3].partition("=")[2], file.stem.partition("=")[2]
        ids = pq.ParquetFile(file).read(columns=["id"])["id"].to_pylist()
        found[int(order), int(pixel)] = sorted(ids)
    return found


@pytest.mark.parametrize("name", SKIES)
def test_rows_without_fine_filter_are_those_of_the_peer(
    name: str, python: Path, tmp_path: Path
) -> None:
    table, partitions, threshold = SKIES[name]()
    write_hats(tmp_path, name, table, partitions)
    config = {
        "input_catalog_path": name,
        "output_path": "ours",
        "output_artifact_name": "margin",
        "margin_threshold": threshold,
        "fine_filtering": False,
    }
    run_workflow(tmp_path, config=config, check=True)
    given = ("--input", tmp_path / name, "--output", tmp_path / "theirs", "--name", "margin")
    run(python, PEERS / "run_hats_import.py", *given, "--threshold", threshold)
    ours, theirs = rows_of(tmp_path / "ours/margin"), rows_of(tmp_path / "theirs/margin")
    negative = ours.keys() - {tuple(pixel) for pixel in partitions.tolist()}
    count = sum(map(len, ours.values()))
    print(f"{name}: {count} rows, {len(ours)} files, {len(negative)} of them of negative pixels")
    assert ours == theirs
    assert count > 10_000
    assert bool(negative) == (name == "holed")
    schemas = [
        pq.read_schema(tmp_path / who / "margin/dataset/_common_metadata")
        for who in ("ours", "theirs")
    ]
    assert schemas[0].equals(schemas[1])


def test_automatic_order_is_that_of_the_peer(python: Path) -> None:
    """Also within a few rounding errors of the thresholds at which the order changes."""
    tenths = np.arange(1, 36_001) / 10.0
    changes = np.sqrt(np.pi / 3.0) / 2.0 ** np.arange(5, 20) * ARCSEC_PER_RADIAN / 1.6
    near = [change * (1.0 + rounding * 1e-14) for change in changes for rounding in (-1, 1)]
    thresholds = [*tenths.tolist(), *near]
    code = (
        "import sys, numpy as np, hats.pixel_math.healpix_shim as shim\n"
        "print(*shim.margin2order(np.array(sys.stdin.read().split(), float) / 60.0))"
    )
    theirs = run(python, "-c", code, given=" ".join(map(repr, map(float, thresholds))))
    assert [finest_margin_order(one) for one in thresholds] == list(map(int, theirs.split()))
