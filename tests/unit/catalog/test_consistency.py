"""Catalogs whose metadata contradict their files or rows are refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog import consistency
from margin_cache.catalog.consistency import check_consistency
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import read_partitions
from margin_cache.catalog.spec import pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from margin_cache.storage.catalog_files import CatalogFiles
from support.catalog_infos import HATS, HIPSCAT, partition_paths, write_partition

TABLE = pa.table({"ra": [1.0, 3.0], "dec": [2.0, 4.0]})
PIXELS = [Pixel(1, 0), Pixel(2, 5), Pixel(0, 1)]


@pytest.fixture(params=["hipscat", "hats", "directories"])
def info(request: pytest.FixtureRequest, tmp_path: Path) -> CatalogInfo:
    """A catalog with all optional metadata except partition_info.csv."""
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
    write_metadata(info)
    return info


def files_of(info: CatalogInfo) -> list[Path]:
    return [file for pixel in PIXELS for file in partition_paths(info, pixel)]


def state_rows(info: CatalogInfo, rows: object) -> None:
    if info.dataset:
        Path(info.path, "hats.properties").write_text(f"hats_nrows={rows}\n")
    else:
        Path(info.path, "catalog_info.json").write_text(json.dumps({"total_rows": rows}))


def write_metadata(info: CatalogInfo, before: str | None = None) -> Path:
    """Write _metadata; its paths begin as in the format, or with `before`."""
    footers = []
    for file in files_of(info):
        footers.append(pq.read_metadata(file))
        start = ("" if info.dataset else "/") if before is None else before
        footers[-1].set_file_path(
            start + file.relative_to(Path(info.path, info.dataset)).as_posix()
        )
    path = Path(info.path, info.dataset) / "_metadata"
    pq.write_metadata(TABLE.schema, path, metadata_collector=footers)
    return path


def refused(info: CatalogInfo) -> str:
    with pytest.raises(MarginCacheError) as caught:
        check_consistency(info, read_partitions(info))
    return str(caught.value)


def test_a_consistent_catalog_is_accepted(info: CatalogInfo) -> None:
    check_consistency(info, read_partitions(info))
    write_metadata(info, "/elsewhere/dataset/")
    check_consistency(info, read_partitions(info))
    write_metadata(info).unlink()
    check_consistency(info, read_partitions(info))


def test_a_missing_file_listed_in_metadata_is_named(info: CatalogInfo) -> None:
    gone = files_of(info)[-1]
    gone.unlink()
    below = gone.relative_to(Path(info.path, info.dataset))
    said = f"_metadata: lists {below}, which is missing (missing files: 1"
    assert said in refused(info)


def test_a_file_not_listed_in_metadata_is_named(info: CatalogInfo) -> None:
    name = "a" if info.npix_suffix == "/" else ""
    more = write_partition(info, 4, 3071, TABLE, name)
    said = f"_metadata: does not list {more.relative_to(Path(info.path, info.dataset))}. Write"
    assert said in refused(info)
    pq.ParquetWriter(more, TABLE.schema).close()
    assert pq.read_metadata(more).num_row_groups == 0
    check_consistency(info, read_partitions(info))


def test_rows_in_metadata_must_equal_the_stated_number(info: CatalogInfo) -> None:
    rows = 2 * len(files_of(info))
    state_rows(info, rows + 5)
    key = "hats_nrows in its hats.properties" if info.dataset else "total_rows in its catalog_info"
    assert re.search(rf"{key}\S* is {rows + 5}, but .*_metadata lists {rows} rows", refused(info))


@pytest.mark.parametrize("kind", ["none", "no paths", "empty", "too large"])
def test_without_a_list_the_rows_of_all_files_are_counted(
    kind: str, info: CatalogInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_metadata(info)
    if kind == "none":
        path.unlink()
    elif kind == "no paths":
        footers = [pq.read_metadata(file) for file in files_of(info)]
        pq.write_metadata(TABLE.schema, path, metadata_collector=footers)
    elif kind == "empty":
        pq.write_metadata(TABLE.schema, path)
    else:
        monkeypatch.setattr(consistency, "MOST_BYTES", path.stat().st_size - 1)
    check_consistency(info, read_partitions(info))
    rows = 2 * len(files_of(info))
    files_of(info)[-1].unlink()
    assert f"is {rows}, but its files have {rows - 2} rows" in refused(info)
    state_rows(info, "" if info.dataset else None)
    check_consistency(info, read_partitions(info))


def test_with_a_list_no_footers_are_read(
    info: CatalogInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_metadata(info).unlink()
    lines = "".join(f"{order},{pixel}\n" for order, pixel in PIXELS)
    Path(info.path, "partition_info.csv").write_text("Norder,Npix\n" + lines)
    monkeypatch.delattr(CatalogFiles, "open_parquet")
    check_consistency(info, read_partitions(info))


def test_metadata_that_cannot_be_read_is_named(info: CatalogInfo) -> None:
    path = write_metadata(info)
    path.write_bytes(path.read_bytes()[:-9])
    assert refused(info).startswith(f"{path}: cannot be read (")
    path.unlink()
    path.symlink_to("gone")
    assert refused(info) == f"{path}: is a broken link. Remove it."


@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
def test_a_stated_number_of_rows_must_be_a_number(value: str, info: CatalogInfo) -> None:
    state_rows(info, value)
    assert f"is {value}, not a" in refused(info).replace("'", "")


def test_many_partitions_of_an_order_are_compared_by_their_paths(tmp_path: Path) -> None:
    info = replace(HIPSCAT, path=str(tmp_path))
    content = write_partition(info, 7, 0, TABLE).read_bytes()
    footers = []
    for pixel in range(0, 40_000, 199):
        path = tmp_path / pixel_path(Pixel(7, pixel))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        footers.append(pq.read_metadata(path))
        footers[-1].set_file_path("/" + pixel_path(Pixel(7, pixel)))
    pq.write_metadata(TABLE.schema, tmp_path / "_metadata", metadata_collector=footers)
    state_rows(info, 2 * len(footers))
    check_consistency(info, read_partitions(info))
    (tmp_path / pixel_path(Pixel(7, 199 * 150))).unlink()
    assert f"lists {pixel_path(Pixel(7, 199 * 150))}, which is missing" in refused(info)
