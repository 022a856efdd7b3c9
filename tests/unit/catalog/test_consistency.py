"""Catalogs whose metadata contradict their files or rows are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import check_consistency, read_partitions
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from margin_cache.storage.catalog_files import CatalogFiles
from support.catalog_infos import HATS, HIPSCAT, partition_paths, write_partition

TABLE = pa.table({"ra": [1.0, 3.0], "dec": [2.0, 4.0]})
PIXELS = [Pixel(1, 0), Pixel(2, 5), Pixel(0, 1)]


@pytest.fixture(params=["hipscat", "hats", "directories"])
def info(request: pytest.FixtureRequest, tmp_path: Path) -> CatalogInfo:
    """A catalog without partition_info.csv."""
    info = {
        "hipscat": HIPSCAT,
        "hats": HATS,
        "directories": replace(HATS, npix_suffix="/"),
    }[request.param]
    info = replace(info, path=str(tmp_path))
    for pixel in PIXELS:
        for name in ("a b", "b.parquet") if info.npix_suffix == "/" else ("",):
            write_partition(info, *pixel, TABLE, name)
    state_rows(info, 2 * len(files_of(info)))
    return info


def files_of(info: CatalogInfo) -> list[Path]:
    return [file for pixel in PIXELS for file in partition_paths(info, pixel)]


def state_rows(info: CatalogInfo, rows: object) -> None:
    if info.dataset:
        Path(info.path, "hats.properties").write_text(f"hats_nrows={rows}\n")
    else:
        Path(info.path, "catalog_info.json").write_text(json.dumps({"total_rows": rows}))


def refused(info: CatalogInfo) -> str:
    with pytest.raises(MarginCacheError) as caught:
        check_consistency(info, read_partitions(info))
    return str(caught.value)


def test_the_rows_of_all_files_are_counted(info: CatalogInfo) -> None:
    check_consistency(info, read_partitions(info))
    rows = 2 * len(files_of(info))
    files_of(info)[-1].unlink()
    key = "hats_nrows in its hats.properties" if info.dataset else "total_rows in its catalog_info"
    assert f"{key}" in refused(info)
    assert f"is {rows}, but its files have {rows - 2} rows" in refused(info)
    state_rows(info, "" if info.dataset else None)
    check_consistency(info, read_partitions(info))


def test_with_a_list_footers_are_read_of_directories_only(
    info: CatalogInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of pixels does not show that a file of a directory is missing."""
    lines = "".join(f"{order},{pixel}\n" for order, pixel in PIXELS)
    Path(info.path, "partition_info.csv").write_text("Norder,Npix\n" + lines)
    if info.npix_suffix == "/":
        files_of(info)[-1].unlink()
        assert "but its files have" in refused(info)
    else:
        monkeypatch.delattr(CatalogFiles, "open_parquet")
        check_consistency(info, read_partitions(info))


@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
def test_a_stated_number_of_rows_must_be_a_number(value: str, info: CatalogInfo) -> None:
    state_rows(info, value)
    assert f"is {value}, not a" in refused(info).replace("'", "")
