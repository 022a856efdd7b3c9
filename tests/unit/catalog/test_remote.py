"""Remote catalogs are listed whole, follow changes in the store, and need no optional files."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import partition_files, read_partitions
from margin_cache.catalog.remote import connect_catalog
from margin_cache.errors import MarginCacheError
from margin_cache.storage.object_store import connect
from support.faulty_proxy import faulty_proxy
from support.faulty_server import Behaviour, faulty_server
from support.object_servers import Bucket
from support.odd_servers import MISSING, PRESENT, odd_server
from support.small_skies import small_catalog


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    return small_catalog(tmp_path / "sky/small", rows=600, max_rows=100)


@pytest.fixture
def served(catalog: Path) -> Iterator[Behaviour]:
    with faulty_server(catalog.parent) as server:
        yield server


def connected(url: str) -> CatalogInfo:
    connect_catalog(url, {})
    return read_catalog_info(url)


def test_listing_has_the_partitions_with_their_sizes(catalog: Path, served: Behaviour) -> None:
    info = connected(f"{served.url}/small")
    own = read_partitions(read_catalog_info(str(catalog)))
    found = read_partitions(info)
    for name in ("orders", "pixels", "sizes"):
        assert (getattr(found, name) == getattr(own, name)).all()
    assert (found.times != own.times).all()
    assert info.url == info.path == info.absolute_location == f"{served.url}/small"
    again = read_partitions(connected(f"{served.url}/small/"))
    assert not again.changed_from(found).any()


def test_each_object_is_requested_once(served: Behaviour, catalog: Path) -> None:
    info = connected(f"{served.url}/small")
    heads = [path for method, path in served.requests if method == "HEAD"]
    partitions = [path for path in heads if "Norder" in path]
    assert len(partitions) == len(set(partitions)) == len(list(catalog.rglob("Npix=*")))
    assert not [path for method, path in served.requests if method == "GET" and "Norder" in path]
    # Small files and footers that were read are kept, for other runs too.
    (file,) = partition_files(info, read_partitions(info)[0].pixel)
    assert info.files.open_parquet(file).metadata.num_rows > 0
    served.requests.clear()
    assert connected(f"{served.url}/small").files.open_parquet(file).metadata.num_rows > 0
    (read,) = [path for method, path in served.requests if method == "GET"]
    assert read.endswith("/collection.properties")


def test_listing_follows_changes(served: Behaviour, catalog: Path) -> None:
    before = read_partitions(connected(f"{served.url}/small"))
    files = sorted(catalog.rglob("Npix=*"))
    files[0].write_bytes(files[0].read_bytes()[::-1])
    files[1].unlink()
    info = connected(f"{served.url}/small")
    with pytest.raises(MarginCacheError, match=r"127.*partition_info.csv lists .*missing"):
        read_partitions(info)
    lines = (catalog / "partition_info.csv").read_text().splitlines()
    pixel = files[1].name.removeprefix("Npix=").removesuffix(".parquet")
    order = files[1].parts[-3].removeprefix("Norder=")
    kept = [line for line in lines if not line.startswith(f"{order},{pixel},")]
    assert len(kept) == len(lines) - 1
    (catalog / "partition_info.csv").write_text("\n".join(kept) + "\n")
    after = read_partitions(connected(f"{served.url}/small"))
    assert len(after.orders) == len(before.orders) - 1
    shared = before.take(
        [
            number
            for number, pixel in enumerate(zip(before.orders, before.pixels))
            if pixel in set(zip(after.orders, after.pixels))
        ]
    )
    assert after.changed_from(shared).sum() == 1


def test_without_versions_nothing_is_kept_and_a_line_warns(
    served: Behaviour, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with --forceall must read the files as they are now."""
    connected(f"{served.url}/small")
    assert capsys.readouterr().err == ""
    served.sends_etags = False
    info = connected(f"{served.url}/small")
    warned = capsys.readouterr().err
    assert warned.startswith(f"warning: {served.url}/small: the server tells neither ETags nor")
    assert warned.count("\n") == 1 and "--forceall" in warned
    (file,) = partition_files(info, read_partitions(info)[0].pixel)
    for name, read in ((file, info.files.footer), ("partition_info.csv", info.files.read)):
        content = (catalog / name).read_bytes()
        assert content.endswith(read(name))
        (catalog / name).write_bytes(content[:-20] + content[-20:-8][::-1] + content[-8:])
        assert (catalog / name).read_bytes().endswith(read(name))


def test_metadata_of_all_files_is_not_read(served: Behaviour, catalog: Path) -> None:
    """It can be large, and a list of the partitions serves."""
    assert (catalog / "_metadata").exists()
    connected(f"{served.url}/small")
    assert ("GET", "/small/_metadata") not in served.requests


def test_listing_store_needs_no_partition_info(catalog: Path) -> None:
    (catalog / "partition_info.csv").unlink()
    (catalog / "_metadata").unlink(missing_ok=True)
    fsspec.filesystem("memory").put(str(catalog), "/listed", recursive=True)
    found = read_partitions(connected("memory://listed"))
    assert len(found.orders) == len(list(catalog.rglob("Npix=*")))


def test_catalog_without_names_of_its_files_is_refused(served: Behaviour, catalog: Path) -> None:
    (catalog / "partition_info.csv").unlink()
    (catalog / "_metadata").unlink(missing_ok=True)
    with pytest.raises(
        MarginCacheError, match=r"small: the server does not list files, and no readable"
    ):
        connected(f"{served.url}/small")


@pytest.mark.parametrize("table", ["small", "{url}/small", "./small/", "{url}/small/"])
def test_a_collection_has_its_table_below_or_elsewhere(
    served: Behaviour, catalog: Path, table: str
) -> None:
    properties = f"hats_primary_table_url={table.format(url=served.url)}\n"
    (catalog.parent / "collection.properties").write_text(properties)
    info = connected(served.url)
    assert info.url == f"{served.url}/small"
    assert len(read_partitions(info)) == len(list(catalog.rglob("Npix=*")))


def test_a_table_at_another_server_gets_no_options_of_the_collection(
    served: Behaviour, catalog: Path
) -> None:
    table = "http://127.0.0.1:1/sky"
    (catalog.parent / "collection.properties").write_text(f"hats_primary_table_url={table}\n")
    with pytest.raises(MarginCacheError) as error:
        connect_catalog(served.url, {"headers": {"Authorization": "s3cret"}})
    assert table in str(error.value) and "must not get its input_storage_options" in str(
        error.value
    )
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("../small", "has :: or .. or control characters in it"),
        *((table, "is outside of it") for table in ("/small", "file:///small", "")),
        ("https://example.org/small?token=x", "has a query or fragment"),
    ],
)
def test_collection_with_a_table_outside_is_refused(
    served: Behaviour, catalog: Path, table: str, words: str
) -> None:
    collection = catalog.parent / "collection"
    collection.mkdir()
    (collection / "collection.properties").write_text(f"hats_primary_table_url={table}\n")
    with pytest.raises(MarginCacheError, match=words):
        connected(f"{served.url}/collection")


def test_url_without_a_catalog_is_named(served: Behaviour) -> None:
    with pytest.raises(MarginCacheError, match=f"{served.url}/other: is neither a HiPSCat"):
        connected(f"{served.url}/other")


@pytest.mark.parametrize("missing", MISSING)
def test_optional_files_may_be_missing_in_any_way(missing: str, catalog: Path) -> None:
    """Some servers refuse what does not exist, others send a page."""
    for path in catalog.glob("_*metadata"):
        path.unlink()
    with odd_server(catalog.parent, missing=missing) as url:
        info = connected(f"{url}/small")
        assert not info.files.exists("_metadata") and not info.files.exists("_common_metadata")
        assert len(read_partitions(info)) == len(list(catalog.rglob("Npix=*")))
        is_refused = missing in ("401", "403")
        words = "permission denied, or there is no such file" if is_refused else "is neither a"
        with pytest.raises(MarginCacheError, match=words):
            connected(f"{url}/other")


@pytest.mark.parametrize("present", PRESENT)
def test_odd_servers_are_read_if_ranges_of_partitions_can_be(present: str, catalog: Path) -> None:
    with odd_server(catalog.parent, present=present) as url:
        info = connected(f"{url}/small")
        rows = sum(
            info.files.open_parquet(file).metadata.num_rows
            for pixel, _ in read_partitions(info)
            for file in partition_files(info, pixel)
        )
    assert rows == 600


def test_a_bucket_that_must_not_be_listed_is_read_by_names(catalog: Path, server: Bucket) -> None:
    url = server.upload(catalog, "unlisted/small")
    with faulty_proxy(server.endpoint) as proxy:
        proxy.refuses_lists = True
        options = server.through(proxy.url).options
        assert connect(url, options).list() is None
        connect_catalog(url, options)
        assert len(read_partitions(read_catalog_info(url))) == len(list(catalog.rglob("Npix=*")))


@pytest.mark.parametrize("content", [b"", b"half", b"x" * 5000])
def test_a_damaged_file_of_the_cache_is_read_anew(
    content: bytes, catalog: Path, served: Behaviour
) -> None:
    connect_catalog(f"{served.url}/small", {})
    info = read_catalog_info(f"{served.url}/small")
    expected = read_partitions(info)
    cached = list(Path(".snakemake/remote").iterdir())
    assert cached
    for file in cached:
        file.write_bytes(content)
    connect_catalog(f"{served.url}/small", {})
    assert list(read_partitions(read_catalog_info(f"{served.url}/small"))) == list(expected)
