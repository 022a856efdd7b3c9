"""Maps show each pixel at its position on the sky."""

from dataclasses import replace

import healpy
import numpy as np
import pytest
from margin_cache.report.data import ReportData
from margin_cache.report.sky import draw_maps, projected

GALACTIC_CENTRE = 266.405, -28.936  # right ascension and declination [deg]


@pytest.mark.parametrize("frame", ["C", "G"])
@pytest.mark.parametrize("pixel", [5, 1000, 1700, 3000])
def test_a_pixel_is_figure_at_its_position(frame: str, pixel: int):
    projection = healpy.projector.MollweideProj(coord=frame, xsize=400)
    image = projected(projection, np.full(3072, 4), np.arange(3072), np.arange(3072.0))
    middle = healpy.pix2ang(16, pixel, nest=True, lonlat=True)
    longitude, latitude = healpy.Rotator(coord=["C", frame])(*middle, lonlat=True)
    x, y = projection.ang2xy(longitude, latitude, lonlat=True, direct=True)
    assert image[projection.xy2ij(x, y)] == pixel


def test_the_middle_of_the_galactic_map_is_the_galactic_centre():
    projection = healpy.projector.MollweideProj(coord="G", xsize=400)
    image = projected(projection, np.full(3072, 4), np.arange(3072), np.arange(3072.0))
    assert image[100, 200] == healpy.ang2pix(16, *GALACTIC_CENTRE, nest=True, lonlat=True)


def test_pixels_of_several_orders_tile_the_map():
    orders = np.array([0, 1, 1, 1, 1, *[0] * 10])
    pixels = np.array([0, 4, 5, 6, 7, *range(2, 12)])
    projection = healpy.projector.MollweideProj(coord="C", xsize=300)
    image = projected(projection, orders, pixels, np.arange(15.0))
    values = image[np.isfinite(image)]
    assert set(values) == set(range(15))
    # The projection keeps areas, so the numbers of points are proportional to them.
    shares = np.bincount(values.astype(int)) / len(values)
    assert shares == pytest.approx(1 / 12 / 4.0**orders, rel=0.05)


def test_there_is_a_map_of_orders_rows_and_share(data: ReportData):
    maps = draw_maps(data)
    assert [figure.name for figure in maps] == ["orders", "margin_rows", "margin_share"]
    for figure in maps:
        assert figure.png.startswith(b"\x89PNG")
        assert b"<svg" in figure.svg[:1000]
        assert figure.title and figure.caption
    assert len({figure.png for figure in maps}) == 3


def test_a_margin_without_rows_has_maps(data: ReportData):
    nothing = np.zeros_like(data.margin_rows)
    assert len(draw_maps(replace(data, margin_rows=nothing, margin_bytes=nothing))) == 3


def test_a_map_has_the_same_bytes_each_time(data: ReportData):
    first, second = draw_maps(data)[0], draw_maps(data)[0]
    assert (first.png, first.svg) == (second.png, second.svg)
