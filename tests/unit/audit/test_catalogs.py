from pathlib import Path

import pytest
from margin_cache.audit.catalogs import open_catalog
from margin_cache.errors import MarginCacheError
from support.paths import ROOT


@pytest.mark.parametrize("name", ["hipparcos", "hipparcos_hats"])
def test_both_formats_are_opened_by_their_readers(name: str) -> None:
    catalog = open_catalog(ROOT / "demo" / name)
    rows = sum(len(catalog.read(pixel)) for pixel in catalog.pixels)
    assert rows == catalog.rows > 0
    assert catalog.threshold is None


def test_what_no_reader_opens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match="official reader fails"):
        open_catalog(tmp_path)
