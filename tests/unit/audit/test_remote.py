"""Catalogs and margins at URLs get the same verdict as on disk."""

from pathlib import Path

import fsspec
import pytest
from margin_cache.audit.audit import audit_margin
from margin_cache.audit.catalogs import catalog_state
from margin_cache.audit.request import AuditRequest
from margin_cache.errors import MarginCacheError
from support.odd_servers import odd_server
from support.peer_margins import DATA, WRITERS


def request_at(location: str | Path) -> AuditRequest:
    return AuditRequest(f"{location}/sky", f"{location}/margin", "unused")


@pytest.mark.parametrize("name", WRITERS)
def test_margins_are_audited_at_their_urls(name: str) -> None:
    on_disk = audit_margin(request_at(DATA / name))
    fsspec.filesystem("memory").put(str(DATA / name), f"/{name}", recursive=True)
    assert audit_margin(request_at(f"memory://{name}")) == on_disk
    with odd_server(DATA / name) as url:
        assert audit_margin(request_at(url)) == on_disk


def test_a_file_that_cannot_be_fetched_is_named() -> None:
    with odd_server(DATA) as url, pytest.raises(MarginCacheError, match=r"nothing: cannot be open"):
        audit_margin(AuditRequest(f"{url}/nothing", f"{url}/hats_import/margin", "unused"))


def test_the_state_of_a_catalog_at_a_url_changes_with_its_files() -> None:
    files = fsspec.filesystem("memory")
    files.put(str(DATA / "hats_import"), "/changing", recursive=True)
    before = catalog_state("memory://changing/margin")
    assert catalog_state("memory://changing/margin") == before
    files.pipe("/changing/margin/dataset/_metadata", b"other")
    assert catalog_state("memory://changing/margin") != before
    with odd_server(DATA) as url:
        here, there = (catalog_state(f"{url}/{name}/margin") for name in WRITERS)
        assert here != there


@pytest.mark.parametrize(("primary", "margin"), [tuple(WRITERS), tuple(WRITERS)[::-1]])
def test_a_margin_of_the_other_format_is_refused(primary: str, margin: str) -> None:
    request = AuditRequest(str(DATA / primary / "sky"), str(DATA / margin / "margin"), "unused")
    with pytest.raises(MarginCacheError, match="Give the catalog in the format of the margin"):
        audit_margin(request)
