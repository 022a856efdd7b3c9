"""hats, LSDB and hipscat open margins where they lie in S3, as those on disk."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from support.object_servers import BUCKET, S3
from support.remote_catalogs import NAME, configured, made_on_disk, small_catalogs
from support.workflow_runs import run_workflow

# What LSDB and pandas do of their own accord is not for these tests to judge.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalogs(tmp_path_factory.mktemp("catalogs"))


def test_hats_and_lsdb_open_a_margin_where_it_lies(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    """A crossmatch by LSDB, all in S3, is that of what is on disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dask
        import lsdb
        from hats import read_hats
        from upath import UPath
    dask.config.set(scheduler="synchronous")
    catalog = catalogs / "hats"
    url = s3.upload(catalog, "peers/hats")
    made_on_disk(tmp_path / "local", catalog, s3)
    run_workflow(tmp_path / "run", config=configured(url, s3, "peers"), check=True)
    margin, local = f"s3://{BUCKET}/peers/{NAME}", tmp_path / "local/results" / NAME
    found, here = read_hats(margin, storage_options=s3.options), read_hats(local)
    assert len(found) == len(here) > 0
    assert list(found.get_healpix_pixels()) == list(here.get_healpix_pixels())

    def crossmatched(primary: Any, beside: Any) -> Any:
        left = lsdb.open_catalog(primary)
        right = lsdb.open_catalog(primary, margin_cache=beside)
        pairs = left.crossmatch(right, radius_arcsec=50, n_neighbors=5, suffixes=("_a", "_b"))
        columns = ["id_a", "id_b", "_dist_arcsec"]
        return pairs.compute()[columns].sort_values(columns).reset_index(drop=True)

    remote = crossmatched(UPath(url, **s3.options), UPath(margin, **s3.options))
    on_disk = crossmatched(catalog, local)
    assert len(remote) > len(set(remote["id_a"])) > 0
    assert remote.equals(on_disk)


HIPSCAT = """
import json, sys
from hipscat import read_from_hipscat
place, options = json.loads(sys.argv[1])
found = read_from_hipscat(place, storage_options=options)
pixels = [[pixel.order, pixel.pixel] for pixel in found.get_healpix_pixels()]
print(json.dumps([found.catalog_info.catalog_type, found.catalog_info.total_rows, pixels]))
"""


def opened_by_hipscat(place: str, options: dict[str, Any]) -> list[Any]:
    """What hipscat says of a margin, in a process that compiles nothing, as that takes long."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HIPSCAT, json.dumps([place, options])],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(finished.stdout)


def test_hipscat_opens_a_margin_where_it_lies(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    config = configured(catalogs / "hipscat", s3, "old_peers")
    run_workflow(tmp_path / "run", config=config, check=True)
    made_on_disk(tmp_path / "local", catalogs / "hipscat", s3)
    found = opened_by_hipscat(f"s3://{BUCKET}/old_peers/{NAME}", s3.options)
    assert found == opened_by_hipscat(str(tmp_path / "local/results" / NAME), {})
    assert found[0] == "margin" and found[1] > 0 and len(found[2]) > 0
