"""Catalogs and margins at URLs get the same verdict as on disk."""

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.files import UnreadableFile, is_there, open_location
from margin_cache.audit.request import AuditRequest, state_of
from margin_cache.errors import MarginCacheError, RetryableError
from support import odd_servers
from support.audits import audit_margin
from support.odd_servers import odd_server
from support.peer_margins import DATA, WRITERS


def request_at(location: str | Path) -> AuditRequest:
    return AuditRequest(f"{location}/sky", f"{location}/margin", "unused")


@pytest.mark.parametrize(("name", "missing"), [("hipscat_import", "page"), ("hats_import", "403")])
def test_margins_are_audited_at_their_urls(name: str, missing: str) -> None:
    """Whatever the server answers for optional files that do not exist."""
    on_disk = audit_margin(request_at(DATA / name))
    fsspec.filesystem("memory").put(str(DATA / name), f"/{name}", recursive=True)
    for kind in ("sky", "margin"):  # without a list of the partitions, the store is listed
        fsspec.filesystem("memory").rm(f"/{name}/{kind}/partition_info.csv")
    assert audit_margin(request_at(f"memory://{name}")) == on_disk
    with odd_server(DATA / name, missing) as url:
        assert audit_margin(request_at(url)) == on_disk


def test_a_request_that_fails_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """But a file of the margin that is missing is one."""
    monkeypatch.setitem(odd_servers.MISSING, "503", (503, b"", {}))
    with odd_server(DATA / "hats_import", "503") as url:
        margin = open_catalog_of_pixels(f"{url}/margin/dataset")
        with pytest.raises(RetryableError, match=r"Npix=9.parquet: failed .*503"):
            margin.count((3, 9))
        with pytest.raises(RetryableError, match="failed 8 times"):
            is_there(margin.root / "nothing")
    with pytest.raises(RetryableError, match="failed 8 times"):
        margin.count((3, 9))  # the server is away
    with odd_server(DATA / "hats_import") as url:
        margin = open_catalog_of_pixels(f"{url}/margin/dataset")
        with pytest.raises(UnreadableFile, match=r"Npix=9.parquet: cannot be read"):
            margin.count((3, 9))
        assert not is_there(margin.root / "nothing") and is_there(margin.root / "_metadata")


def open_catalog_of_pixels(url: str) -> AuditedCatalog:
    return AuditedCatalog(
        open_location(url), [(3, 9)], ".parquet", 10, 5, "_healpix_29", ("ra", "dec")
    )


def test_a_store_that_must_not_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(DATA / "hats_import"), "/unlisted", recursive=True)
    expected = audit_margin(request_at(DATA / "hats_import"))

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("no")

    for name in ("find", "ls", "glob"):
        monkeypatch.setattr(MemoryFileSystem, name, refused)
    before = state_of("memory://unlisted/margin")
    assert audit_margin(request_at("memory://unlisted")) == expected
    files.pipe("/unlisted/margin/hats.properties", b"other")
    assert state_of("memory://unlisted/margin") != before
    in_parts = replace(open_catalog_of_pixels("memory://unlisted/margin/dataset"), suffix="/")
    with pytest.raises(MarginCacheError, match="which the server does not list") as raised:
        in_parts.count((3, 9))
    assert not isinstance(raised.value, UnreadableFile)


def test_a_driver_that_is_missing_and_options_that_it_does_not_take() -> None:
    for location, options in (("nothing://x/y", {}), ("s3://x/y", {"secrett": "s3cret"})):
        with pytest.raises(MarginCacheError) as raised:
            state_of(location, options)
        assert "s3cret" not in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_cannot_be_fetched_is_named() -> None:
    with odd_server(DATA) as url, pytest.raises(MarginCacheError, match=r"nothing: cannot be open"):
        audit_margin(AuditRequest(f"{url}/nothing", f"{url}/hats_import/margin", "unused"))


def test_the_state_of_a_catalog_at_a_url_changes_with_its_files() -> None:
    files = fsspec.filesystem("memory")
    files.put(str(DATA / "hats_import"), "/changing", recursive=True)
    before = state_of("memory://changing/margin")
    assert state_of("memory://changing/margin") == before
    files.pipe("/changing/margin/dataset/_metadata", b"other")
    assert state_of("memory://changing/margin") != before
    with odd_server(DATA) as url:
        here, there = (state_of(f"{url}/{name}/margin") for name in WRITERS)
        assert here != there


@pytest.mark.parametrize(("primary", "margin"), [tuple(WRITERS), tuple(WRITERS)[::-1]])
def test_a_margin_of_the_other_format_is_refused(primary: str, margin: str) -> None:
    request = AuditRequest(str(DATA / primary / "sky"), str(DATA / margin / "margin"), "unused")
    with pytest.raises(MarginCacheError, match="Give the catalog in the format of the margin"):
        audit_margin(request)
