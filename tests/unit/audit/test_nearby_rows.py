import numpy as np
import pytest
from margin_cache.audit import audit
from margin_cache.audit.audit import PrimaryRows
from margin_cache.audit.catalogs import AuditedCatalog, open_catalog
from margin_cache.audit.compare import ROW
from margin_cache.audit.metadata import PrimaryColumns
from margin_cache.audit.request import Pixel
from support.paths import ROOT

NOTHING = np.empty(0, ROW)


@pytest.fixture
def primary() -> AuditedCatalog:
    return open_catalog(str(ROOT / "demo/hipparcos"))


def rows_of(primary: AuditedCatalog) -> PrimaryRows:
    return PrimaryRows(primary, PrimaryColumns(primary), 60.0)


def test_rows_near_the_boundary_and_rows_of_the_margin_are_read(primary: AuditedCatalog) -> None:
    pixel, other, far = (*primary.pixels[:2], primary.pixels[-1])
    every = primary.positions(pixel, "_hipscat_index")
    near = rows_of(primary).rows(pixel, [pixel, other], NOTHING)
    own = near[near["own"]]
    assert 0 < len(own) < len(every) / 2 and len(own) < len(near)
    assert (near["digest"] != 0).all()
    inner = every[~np.isin(every["index"], own["index"])][:1]
    strange = inner.copy()
    strange["dec"] += 1e-9
    for partitions in ([pixel, other], [far]):  # it is found by its position
        rows = rows_of(primary).rows(pixel, partitions, np.concatenate([own[:1], inner, strange]))
        (found,) = rows[rows["index"] == inner["index"]]
        assert found["own"] and found["digest"] != 0 and found["dec"] == inner["dec"]
        assert not rows["own"].all()
    assert len(rows_of(primary).rows(pixel, [], NOTHING)) == 0


def test_a_partition_is_read_once_while_it_is_cached(
    primary: AuditedCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Pixel] = []
    positions = AuditedCatalog.positions

    def note(catalog: AuditedCatalog, pixel: Pixel, index_column: str | None) -> object:
        read.append(pixel)
        return positions(catalog, pixel, index_column)

    monkeypatch.setattr(AuditedCatalog, "positions", note)
    some, rows = primary.pixels[:3], rows_of(primary)
    for pixel in some:
        rows.rows(pixel, some, NOTHING)
    assert read == some
    monkeypatch.setattr(audit, "MAX_CACHED_ROWS", 0)
    rows = rows_of(primary)
    rows.rows(some[0], some, NOTHING)
    rows.rows(some[0], some, NOTHING)
    assert len(read) == 3 * len(some)
