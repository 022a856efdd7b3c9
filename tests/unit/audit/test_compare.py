import healpy
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from margin_cache.audit.compare import ROW, Rows, compare_rows, row_digests
from margin_cache.audit.findings import ROW_KINDS, RowDefects
from support.oracle.distances import exact_distances

PIXELS = [(3, 63), (3, 575), (2, 70), (0, 8)]  # both poles, the belt, a pixel of order 0


def rows_around(order: int, pixel: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows around a pixel, and its true margin of 600 arcsec by the oracle."""
    corners = healpy.boundaries(2**order, pixel, step=50, nest=True).T
    points = corners[:, None, :] + np.random.default_rng(1).normal(0, 3e-3, (len(corners), 10, 3))
    ra, dec = healpy.vec2ang(points.reshape(-1, 3), lonlat=True)
    primary = pd.DataFrame({"ra": ra, "dec": dec, "flux": np.arange(ra.size) / 7})
    primary.loc[::5, "flux"] = np.nan
    primary["index"] = np.arange(ra.size, dtype=np.uint64) * np.uint64(3)
    primary["own"] = healpy.ang2pix(2**order, ra, dec, nest=True, lonlat=True) == pixel
    exact = exact_distances(ra, dec, np.full(ra.size, order), np.full(ra.size, pixel))
    return primary, primary[~primary["own"] & (exact <= 600)]


def compared(
    primary: pd.DataFrame,
    margin: pd.DataFrame,
    pixel: tuple[int, int],
    threshold: float = 600.0,
    cell_order: int | None = None,
) -> RowDefects:
    return compare_rows(as_rows(primary), as_rows(margin), *pixel, threshold, cell_order)


def as_rows(table: pd.DataFrame) -> Rows:
    rows = np.zeros(len(table), ROW)
    for name in ("index", "ra", "dec", "own"):
        rows[name] = table[name]
    rows["digest"] = row_digests(pa.table({"flux": table["flux"].to_numpy()}), ["flux"])
    return rows


def is_clean(defects: RowDefects) -> bool:
    return not any(getattr(defects, kind) for kind in ROW_KINDS)


def indexes(rows: pd.DataFrame) -> list[int]:
    return sorted(rows["index"].tolist())


@pytest.mark.parametrize("pixel", PIXELS)
def test_an_untouched_margin_is_clean(pixel: tuple[int, int]) -> None:
    primary, margin = rows_around(*pixel)
    assert len(margin) > 100
    defects = compared(primary, margin, pixel)
    assert is_clean(defects)
    assert defects.undecided == 0


@pytest.mark.parametrize("pixel", PIXELS)
def test_exactly_the_defects_are_found(pixel: tuple[int, int]) -> None:
    primary, margin = rows_around(*pixel)
    others = primary[~primary["index"].isin(margin["index"])]
    gone, changed, moved = margin.iloc[[4, 9]], margin.iloc[[2, 7]], margin.iloc[[11]]
    duplicates = margin.iloc[20:22]
    touched = margin.drop(gone.index)
    touched.loc[changed.index, "flux"] = -1.0
    touched.loc[moved.index, "dec"] += 1e-9
    unknown = margin.iloc[:1].assign(index=np.uint64(10**9))
    assert exact_distances(*moved[["ra", "dec"]].to_numpy().T, [pixel[0]], [pixel[1]])[0] < 599
    touched = pd.concat([touched, duplicates, others.iloc[:3], unknown])
    defects = compared(primary, touched, pixel)
    assert defects.missing == sorted([*indexes(gone), *indexes(moved)])
    own = others.iloc[:3]["own"]
    assert [index for index, _ in defects.beyond] == indexes(others.iloc[:3][~own])
    assert defects.foreign == sorted([*indexes(moved), 10**9])
    assert defects.duplicate == sorted([*indexes(duplicates), *indexes(others.iloc[:3][own])])
    assert defects.changed == indexes(changed)
    assert all(beyond > 0 for _, beyond in defects.beyond)


@pytest.mark.parametrize("pixel", PIXELS)
def test_rows_with_the_same_index_are_distinguished(pixel: tuple[int, int]) -> None:
    primary, margin = rows_around(*pixel)
    (index,) = indexes(margin.iloc[[3]])
    twin = margin.iloc[[3]].assign(flux=5.0)
    both, whole = pd.concat([primary, twin]), pd.concat([margin, twin])
    assert is_clean(compared(both, whole, pixel))
    assert compared(both, margin, pixel).missing == [index]
    assert compared(both, margin.drop(margin.index[3]), pixel).missing == [index, index]
    assert compared(both, pd.concat([whole, twin]), pixel).duplicate == [index]
    twice = pd.concat([margin, margin.iloc[[3]]])
    assert compared(both, twice, pixel).changed == [index]


def test_a_row_that_shares_its_index_with_one_beyond_the_threshold_is_missing() -> None:
    primary, margin = rows_around(3, 63)
    far = primary[~primary["own"] & ~primary["index"].isin(margin["index"])].iloc[[0]]
    near = margin.iloc[[0]]
    (index,) = indexes(near)
    primary = primary.copy()
    primary.loc[far.index, "index"] = near["index"].to_numpy()
    swapped = pd.concat([margin.drop(near.index), primary.loc[far.index]])
    defects = compared(primary, swapped, (3, 63))
    assert defects.missing == [index]
    assert [value for value, _ in defects.beyond] == [index]


def test_rows_exactly_at_the_threshold_are_undecided() -> None:
    pixel = (2, 70)
    primary, margin = rows_around(*pixel)
    row = margin.iloc[[0]]
    exact = exact_distances(*(row[name].to_numpy() for name in ("ra", "dec")), [2], [70])
    threshold = float(exact[0])
    true = margin[
        exact_distances(
            margin["ra"].to_numpy(),
            margin["dec"].to_numpy(),
            np.full(len(margin), 2),
            np.full(len(margin), 70),
        )
        < threshold
    ].drop(row.index, errors="ignore")
    for candidate in (true, pd.concat([true, row])):
        defects = compared(primary, candidate, pixel, threshold)
        assert is_clean(defects)
        assert defects.undecided == 1


@pytest.mark.parametrize("pixel", PIXELS)
def test_a_coarse_margin_may_have_all_rows_of_adjacent_cells(pixel: tuple[int, int]) -> None:
    primary, margin = rows_around(*pixel)
    order = 7  # cells of 27 arcmin
    cells = healpy.ang2pix(
        1 << order, primary["ra"].to_numpy(), primary["dec"].to_numpy(), nest=True, lonlat=True
    )
    inner = pixel[1] << 2 * (order - pixel[0]), (pixel[1] + 1) << 2 * (order - pixel[0])
    adjacent = healpy.get_all_neighbours(1 << order, np.arange(*inner), nest=True)
    in_cells = ~primary["own"] & np.isin(cells, adjacent)
    coarse = primary[in_cells]
    assert len(coarse) > len(margin)
    assert is_clean(compared(primary, coarse, pixel, cell_order=order))
    assert compared(primary, coarse, pixel).beyond
    assert compared(primary, coarse.drop(margin.index[:1]), pixel, cell_order=order).missing
    far = primary[~primary["own"] & ~in_cells].iloc[:1]
    assert len(far) == 1
    defects = compared(primary, pd.concat([coarse, far]), pixel, cell_order=order)
    assert [index for index, _ in defects.beyond] == indexes(far)


def test_a_margin_of_a_smaller_threshold_lacks_rows() -> None:
    primary, margin = rows_around(3, 63)
    defects = compared(primary, margin, (3, 63), 606.0)
    assert defects.missing
    assert not (defects.beyond or defects.duplicate or defects.changed)


def test_a_row_that_is_in_the_pixel_only_by_its_position_is_no_defect() -> None:
    primary, margin = rows_around(2, 70)
    inner = primary[primary["own"]].iloc[[0]].assign(own=False)
    primary = pd.concat([primary.drop(inner.index), inner])
    for candidate in (margin, pd.concat([margin, inner])):
        defects = compared(primary, candidate, (2, 70), threshold=600.0)
        assert is_clean(defects)
        assert defects.undecided == 1
