"""Local listings of catalogs are complete, and follow changes in the store."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from margin_cache.catalog import consistency, remote
from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import read_partitions
from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import local_path
from support.faulty_server import Behaviour, faulty_server
from support.remote_catalogs import own_listings
from support.small_skies import small_catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return small_catalog(tmp_path / "sky/small", rows=600, max_rows=100)


@pytest.fixture
def served(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    with (
        faulty_server(catalog.parent) as server,
        own_listings(monkeypatch, catalog.parents[1] / "run"),
    ):
        yield server


def refreshed(url: str) -> CatalogInfo:
    remote.refresh_listing(url, {})
    return read_catalog_info(*local_path(url, {}))


def test_listing_has_the_partitions_with_their_sizes(catalog: Path, served: Behaviour) -> None:
    info = refreshed(f"{served.url}/small")
    own = read_partitions(read_catalog_info(str(catalog)))
    found = read_partitions(info)
    for name in ("orders", "pixels", "sizes"):
        assert (getattr(found, name) == getattr(own, name)).all()
    assert (found.times != own.times).all()
    assert info.url == info.location == info.absolute_location == f"{served.url}/small"
    again = read_partitions(refreshed(f"{served.url}/small/"))
    assert not again.changed_from(found).any()


def test_each_object_is_requested_once(served: Behaviour, catalog: Path) -> None:
    refreshed(f"{served.url}/small")
    heads = [path for method, path in served.requests if method == "HEAD"]
    partitions = [path for path in heads if "Norder" in path]
    assert len(partitions) == len(set(partitions)) == len(list(catalog.rglob("Npix=*")))
    assert not [path for method, path in served.requests if method == "GET" and "Norder" in path]


def test_listing_follows_changes(served: Behaviour, catalog: Path) -> None:
    before = read_partitions(refreshed(f"{served.url}/small"))
    files = sorted(catalog.rglob("Npix=*"))
    files[0].write_bytes(files[0].read_bytes()[::-1])
    files[1].unlink()
    info = refreshed(f"{served.url}/small")
    with pytest.raises(MarginCacheError, match=r"127.*partition_info.csv lists .*missing"):
        read_partitions(info)
    lines = (catalog / "partition_info.csv").read_text().splitlines()
    pixel = files[1].name.removeprefix("Npix=").removesuffix(".parquet")
    order = files[1].parts[-3].removeprefix("Norder=")
    kept = [line for line in lines if not line.startswith(f"{order},{pixel},")]
    assert len(kept) == len(lines) - 1
    (catalog / "partition_info.csv").write_text("\n".join(kept) + "\n")
    after = read_partitions(refreshed(f"{served.url}/small"))
    assert len(after.orders) == len(before.orders) - 1
    shared = before.take(
        [
            number
            for number, pixel in enumerate(zip(before.orders, before.pixels))
            if pixel in set(zip(after.orders, after.pixels))
        ]
    )
    assert after.changed_from(shared).sum() == 1


def test_large_metadata_is_listed_without_content(
    served: Behaviour, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (catalog / "_metadata").write_bytes(b"x" * 100_000)
    monkeypatch.setattr(consistency, "MOST_BYTES", 99_999)
    info = refreshed(f"{served.url}/small")
    assert (Path(info.path) / "_metadata").stat().st_size == 100_000
    assert ("GET", "/small/_metadata") not in served.requests
    assert ("HEAD", "/small/_metadata") in served.requests
    assert consistency.read_metadata(Path(info.path) / "_metadata") is None


def test_listing_store_needs_no_partition_info(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(catalog.parent / "copy", ignore_errors=True)
    (catalog / "partition_info.csv").unlink()
    (catalog / "_metadata").unlink(missing_ok=True)
    fsspec.filesystem("memory").put(str(catalog), "/listed", recursive=True)
    with own_listings(monkeypatch, tmp_path / "run"):
        found = read_partitions(refreshed("memory://listed"))
    assert len(found.orders) == len(list(catalog.rglob("Npix=*")))


def test_catalog_without_names_of_its_files_is_refused(served: Behaviour, catalog: Path) -> None:
    (catalog / "partition_info.csv").unlink()
    (catalog / "_metadata").unlink(missing_ok=True)
    with pytest.raises(
        MarginCacheError, match=r"small: the server does not list files, and no readable"
    ):
        refreshed(f"{served.url}/small")


@pytest.mark.parametrize("table", ["../small", "https://example.org/sky", "/small"])
def test_collection_with_a_table_outside_is_refused(
    served: Behaviour, catalog: Path, table: str
) -> None:
    collection = catalog.parent / "collection"
    collection.mkdir()
    (collection / "collection.properties").write_text(f"hats_primary_table_url={table}\n")
    with pytest.raises(MarginCacheError, match="Give the URL of the table itself"):
        refreshed(f"{served.url}/collection")


def test_url_without_a_catalog_is_named(served: Behaviour) -> None:
    with pytest.raises(MarginCacheError, match=f"{served.url}/other: has no catalog_info"):
        refreshed(f"{served.url}/other")
