import numpy as np
import numpy.typing as npt
import pytest
from margin_cache.audit import audit
from margin_cache.audit.audit import NearbyRows
from margin_cache.audit.catalogs import AuditedCatalog, open_catalog
from margin_cache.audit.pixels import Pixel
from support.paths import ROOT


@pytest.fixture
def primary() -> AuditedCatalog:
    return open_catalog(str(ROOT / "demo/hipparcos"))


def test_rows_near_the_boundary_and_rows_of_the_margin_are_read(primary: AuditedCatalog) -> None:
    pixel, other = primary.pixels[:2]
    index = primary.index_column_of(pixel)
    assert index is not None
    every = primary.read(pixel, [index])[index].to_numpy()
    without = NearbyRows(primary, 60.0, index, [index], lambda _: every[:0])
    near = without.rows(pixel, [pixel])
    assert 0 < len(near) < len(every) / 2
    assert (near["digest"] == 0).all()
    inner = np.setdiff1d(every, near["index"])[:1]
    rows = NearbyRows(primary, 60.0, index, [index], lambda _: inner).rows(pixel, [other, pixel])
    assert set(rows.loc[rows["own"], "index"]) == {*near["index"], *inner}
    assert (rows.loc[rows["index"] == inner[0], "digest"] != 0).all()
    assert not rows["own"].all()
    assert without.rows(pixel, []).empty


def test_a_partition_is_read_once_while_it_is_cached(
    primary: AuditedCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Pixel] = []

    def note(partition: Pixel) -> npt.NDArray[np.uint64]:
        read.append(partition)
        return np.empty(0, np.uint64)

    some = primary.pixels[:3]
    rows = NearbyRows(primary, 60.0, "_hipscat_index", [], note)
    for pixel in some:
        rows.rows(pixel, some)
    assert read == some
    monkeypatch.setattr(audit, "MAX_CACHED_ROWS", 0)
    rows = NearbyRows(primary, 60.0, "_hipscat_index", [], note)
    rows.rows(some[0], some)
    rows.rows(some[0], some)
    assert len(read) == 3 * len(some)
