import healpy
import numpy as np
import pandas as pd
import pytest
from margin_cache.audit.judgement import judge_pixel
from support.oracle.distances import exact_distances

PIXELS = [(3, 63), (3, 575), (2, 70), (0, 8)]  # both poles, the belt, a pixel of order 0


def around(order: int, pixel: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows around a pixel, and its true margin of 600 arcsec by the oracle."""
    corners = healpy.boundaries(2**order, pixel, step=50, nest=True).T
    points = corners[:, None, :] + np.random.default_rng(1).normal(0, 3e-3, (len(corners), 10, 3))
    ra, dec = healpy.vec2ang(points.reshape(-1, 3), lonlat=True)
    primary = pd.DataFrame({"ra": ra, "dec": dec, "flux": np.arange(ra.size) / 7})
    primary.loc[::5, "flux"] = np.nan
    primary.index = pd.Index(np.arange(ra.size) * 3)
    is_own = healpy.ang2pix(2**order, ra, dec, nest=True, lonlat=True) == pixel
    exact = exact_distances(ra, dec, np.full(ra.size, order), np.full(ra.size, pixel))
    return primary, primary[~is_own & (exact <= 600)]


@pytest.mark.parametrize("pixel", PIXELS)
def test_an_untouched_margin_is_clean(pixel: tuple[int, int]) -> None:
    primary, margin = around(*pixel)
    assert len(margin) > 100
    assert judge_pixel(primary, margin, *pixel, 600.0).is_clean


@pytest.mark.parametrize("pixel", PIXELS)
def test_exactly_the_defects_are_found(pixel: tuple[int, int]) -> None:
    primary, margin = around(*pixel)
    others = primary[~primary.index.isin(margin.index)]
    touched = margin.drop(margin.index[[4, 9]])
    changed = touched.index[[2, 7]]
    touched.loc[changed, "flux"] = -1.0
    unknown = margin.iloc[:1].set_axis([10**9])
    touched = pd.concat([touched, touched.iloc[20:22], others.iloc[:3], unknown])
    found = judge_pixel(primary, touched, *pixel, 600.0)
    assert found.missing == sorted(margin.index[[4, 9]])
    assert set(found.false) == {*others.index[:3], 10**9}
    assert found.double == sorted(touched.index[20:22])
    assert found.changed == sorted(changed)
    assert all(np.isnan(beyond) or beyond > 0 for beyond in found.false.values())


@pytest.mark.parametrize("pixel", PIXELS)
def test_rows_that_share_an_index_are_told_apart(pixel: tuple[int, int]) -> None:
    primary, margin = around(*pixel)
    twin = margin.iloc[[3]].assign(flux=5.0)
    both, whole = pd.concat([primary, twin]), pd.concat([margin, twin])
    assert judge_pixel(both, whole, *pixel, 600.0).is_clean
    assert judge_pixel(both, margin, *pixel, 600.0).missing == [margin.index[3]]
    assert judge_pixel(both, pd.concat([whole, twin]), *pixel, 600.0).double == [margin.index[3]]


def test_a_smaller_threshold_is_found() -> None:
    primary, margin = around(3, 63)
    found = judge_pixel(primary, margin, 3, 63, 606.0)
    assert found.missing
    assert not (found.false or found.double or found.changed)
