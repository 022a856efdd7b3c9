"""Figures have the same bytes each time, and maps show each pixel at its position on the sky."""

import tracemalloc

import healpy
import numpy as np
import pytest
from margin_cache.figures import (
    FAULTLESS,
    NO_DATA,
    colour_bar,
    draw_faults,
    draw_sky,
    log_norm,
    new_figure,
    order_norm,
    pixels_on_map,
    plain_ticks,
    render,
)
from matplotlib.colors import to_rgba

GALACTIC_CENTRE = 266.405, -28.936  # right ascension and declination [deg]


@pytest.mark.parametrize("frame", ["C", "G"])
@pytest.mark.parametrize("pixel", [5, 1000, 1700, 3000])
def test_a_pixel_is_drawn_at_its_position(frame: str, pixel: int):
    projection = healpy.projector.MollweideProj(xsize=400)
    image = pixels_on_map(np.full(3072, 4), np.arange(3072), frame, 400)
    middle = healpy.pix2ang(16, pixel, nest=True, lonlat=True)
    longitude, latitude = healpy.Rotator(coord=["C", frame])(*middle, lonlat=True)
    x, y = projection.ang2xy(longitude, latitude, lonlat=True, direct=True)
    assert image[projection.xy2ij(x, y)] == pixel


def test_the_middle_of_the_galactic_map_is_the_galactic_centre():
    image = pixels_on_map(np.full(3072, 4), np.arange(3072), "G", 400)
    assert image[100, 200] == healpy.ang2pix(16, *GALACTIC_CENTRE, nest=True, lonlat=True)


def test_pixels_of_several_orders_tile_the_map():
    orders = np.array([0, 1, 1, 1, 1, *[0] * 10])
    pixels = np.array([0, 4, 5, 6, 7, *range(2, 12)])
    image = pixels_on_map(orders, pixels, width=300)
    assert set(image.flat) == {*range(15), 16}
    # The projection keeps areas, so the numbers of points are proportional to them.
    shares = np.bincount(image[image < 15]) / np.count_nonzero(image < 15)
    assert shares == pytest.approx(1 / 12 / 4.0**orders, rel=0.05)


def test_the_sky_between_the_pixels_has_no_value():
    image = pixels_on_map(np.array([0, 0, 1]), np.array([2, 5, 44]), width=300)
    assert set(image.flat) == {0, 1, 2, 3, 4}
    assert (image[image < 4] == 3).mean() == pytest.approx(1 - 2.25 / 12, abs=0.01)


def test_each_kind_of_pixel_has_its_colour_and_tiny_ones_a_dot():
    """Pixels with and without faults differ from sky that nobody has looked at."""
    _, (axes,) = new_figure(4)
    orders, pixels = np.array([0, 0, 9]), np.array([0, 1, 5 << 18])
    mapping = draw_faults(axes, orders, pixels, np.array([3.0, 0, 40]))
    image = axes.images[0].get_array().reshape(-1, 4) / 255
    for colour in (FAULTLESS, NO_DATA):
        assert (np.abs(image - to_rgba(colour)) < 0.01).all(axis=1).mean() > 0.03
    (dots,) = axes.collections
    assert len(dots.get_offsets()) == 1
    assert dots.get_facecolors()[0] == pytest.approx(mapping.to_rgba(40.0))


@pytest.mark.parametrize(
    ("norm", "values", "labels"),
    [
        (order_norm, [3.0, 3.0], ["3"]),
        (order_norm, [2.0, 4.0], ["2", "3", "4"]),
        (log_norm, [7.0, np.nan], ["7"]),
    ],
)
def test_a_colour_bar_labels_only_values_that_there_can_be(norm, values, labels):
    figure, panels = new_figure(4)
    mapping = draw_sky(
        panels[0], np.array([0, 0]), np.array([0, 1]), np.array(values), norm(np.array(values))
    )
    colour_bar(figure, mapping, panels, "unit")
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == labels


def test_a_figure_has_the_same_bytes_each_time():
    pictures = [render(new_figure(1)[0]) for _ in range(2)]
    assert pictures[0] == pictures[1] and pictures[0].startswith(b"\x89PNG")


def test_ticks_are_numbers_instead_of_powers():
    figure, (axes,) = new_figure(3)
    axes.plot([1, 3000], [1, 1])
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    figure.draw_without_rendering()
    texts = {label.get_text() for label in axes.get_xticklabels()}
    assert {"10", "50", "1,000", "2,000"} <= texts


def test_maps_need_little_memory():
    _, (axes,) = new_figure(4)
    tracemalloc.start()
    try:
        draw_faults(axes, np.zeros(12, int), np.arange(12), np.arange(12.0))
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
