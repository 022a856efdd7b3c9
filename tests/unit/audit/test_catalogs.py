from pathlib import Path

import healpy
import numpy as np
import pytest
from margin_cache.audit.catalogs import open_catalog, pixels_around
from margin_cache.errors import MarginCacheError
from support.paths import ROOT


@pytest.mark.parametrize("name", ["hipparcos", "hipparcos_hats"])
def test_both_formats_are_opened_by_their_readers(name: str) -> None:
    catalog = open_catalog(ROOT / "demo" / name)
    rows = sum(len(catalog.read(pixel)) for pixel in catalog.files)
    assert rows == catalog.rows > 0
    assert catalog.threshold is None


def test_what_no_reader_opens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match="official reader fails"):
        open_catalog(tmp_path)


@pytest.mark.parametrize("pixel", [(2, 15), (2, 70), (2, 0)])
def test_no_neighbour_is_left_out(pixel: tuple[int, int]) -> None:
    everywhere = [(2, number) for number in range(192)]
    touching = {int(n) for n in healpy.get_all_neighbours(4, pixel[1], nest=True) if n >= 0}
    found = {number for _, number in pixels_around(pixel, everywhere, 1.0)}
    assert touching | {pixel[1]} <= found
    assert len(found) < np.size(everywhere) / 4
