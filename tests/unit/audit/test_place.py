from pathlib import Path

import pytest
from margin_cache.audit.place import check_is_local, check_place
from margin_cache.errors import MarginCacheError


def test_an_audit_is_written_where_there_is_nothing_or_an_older_one(tmp_path: Path) -> None:
    place = tmp_path / "out"
    check_place(place)
    place.mkdir()
    for name in ("audit.csv", "audit.json", "missing.png", ".false.png.1234.partial"):
        (place / name).touch()
    check_place(place)
    (place / "catalog_info.json").touch()
    with pytest.raises(MarginCacheError, match=r"/out: has catalog_info.json, which is not of an"):
        check_place(place)
    (tmp_path / "file").touch()
    with pytest.raises(MarginCacheError, match="/file: Not a directory; choose another place"):
        check_place(tmp_path / "file")


def test_what_is_audited_is_on_disk() -> None:
    check_is_local({"input_catalog_path": "/sky", "audit_catalog_path": "", "output_path": "a"})
    with pytest.raises(MarginCacheError, match=r"^output_path: s3://a is a URL, and audits read"):
        check_is_local({"input_catalog_path": "/sky", "output_path": "s3://a"})
