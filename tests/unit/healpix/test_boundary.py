"""The library's distance to pixel boundaries against the independent oracle."""

import os

import healpy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from margin_cache.healpix import boundary
from margin_cache.healpix.boundary import distance_to_pixel, evaluate, is_within, sides_of
from support import oracle
from support.boundary_pairs import (
    ARCSEC_PER_RADIAN,
    PAIR_CLASSES,
    TRANSITION_LATITUDE,
    FloatArray,
    IntArray,
    any_orders,
    cap_pixels,
    displaced,
    edge_points,
    face_edge_pixels,
    log_uniform_distances,
    lon_lat,
    pairs_of_class,
    pole_pixels,
    random_pixels,
)

MAX_ERROR_ARCSEC = 1e-6
COUNT = 200
STEP = 1e-5
# In CI a hundred thousand pairs.
PAIRS_PER_CLASS = 12_000 if os.environ.get("CI") or os.environ.get("LONG") else 1_500
few_examples = settings(max_examples=100, deadline=None, database=None)


def corner_positions(order: IntArray, pixel: IntArray) -> tuple[FloatArray, FloatArray]:
    """Corners (n, 4) of pixels in degrees, from healpy."""
    vectors = [
        healpy.boundaries(2 ** int(k), int(p), step=1, nest=True) for k, p in zip(order, pixel)
    ]
    return lon_lat(np.stack(vectors, axis=1))


def special_positions() -> tuple[FloatArray, FloatArray]:
    """Poles, face corners and their meridians, equator, |z| = 2/3."""
    lats = [-90.0, -TRANSITION_LATITUDE, 0.0, TRANSITION_LATITUDE, 90.0]
    lats += [np.nextafter(90.0, 0), np.nextafter(-90.0, 0), 89.9999999, 1e-12, 60.0]
    lons = [0.0, 360.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0]
    lons += [np.nextafter(360.0, 0), np.nextafter(90.0, 0), 1e-13, 22.5]
    lon, lat = np.meshgrid(lons, lats)
    return lon.reshape(-1), lat.reshape(-1)


# The library against the oracle
def test_error_over_all_classes(capsys: pytest.CaptureFixture[str]) -> None:
    largest = {}
    for name in PAIR_CLASSES:
        lon, lat, order, pixel = pairs_of_class(name, PAIRS_PER_CLASS)
        distance = distance_to_pixel(lon, lat, order, pixel)
        assert distance.shape == lon.shape
        error = np.abs(distance - oracle.exact_distances(lon, lat, order, pixel))
        error = np.where(np.isnan(error), np.inf, error)
        worst = int(error.argmax())
        largest[name] = (
            float(error[worst]),
            (float(lon[worst]), float(lat[worst]), int(order[worst]), int(pixel[worst])),
        )
    with capsys.disabled():
        print(f"\nlargest error (arcsec) of {PAIRS_PER_CLASS} pairs per class")
        for name, (error, pair) in largest.items():
            print(f"  {name:24s} {error:.2e}   lon, lat, order, pixel = {pair}")
        print(f"  {'overall':24s} {max(error for error, _ in largest.values()):.2e}")
    too_large = {name: found for name, found in largest.items() if not found[0] <= MAX_ERROR_ARCSEC}
    assert not too_large


pixels = st.integers(0, 29).flatmap(
    lambda order: st.tuples(st.just(order), st.integers(0, 12 * 4**order - 1))
)
longitudes = st.floats(0, 360)
latitudes = st.floats(-90, 90)


def one_distance(lon: float, lat: float, order: int, pixel: int) -> float:
    return float(distance_to_pixel(np.array([lon]), np.array([lat]), order, pixel)[0])


@few_examples
@given(longitudes, latitudes, pixels)
@example(0.0, 90.0, (0, 0))
@example(0.0, -90.0, (29, 0))
@example(45.0, TRANSITION_LATITUDE, (0, 0))
@example(225.0, 0.0, (0, 4))
def test_any_point_and_any_pixel(lon: float, lat: float, at: tuple[int, int]) -> None:
    expected = oracle.exact_distance(lon, lat, *at)
    assert one_distance(lon, lat, *at) == pytest.approx(expected, rel=0, abs=MAX_ERROR_ARCSEC)


@few_examples
@given(
    pixels,
    st.integers(0, 3),
    st.floats(0, 1),
    st.floats(0, 360),
    st.floats(-6, 6),
)
def test_any_point_near_any_pixel(
    at: tuple[int, int], edge: int, s: float, direction: float, exponent: float
) -> None:
    """A point 10**exponent arcsec from a boundary point of the pixel."""
    edges = oracle.PixelEdges.of_pixels(*at).take(np.array([edge]))
    start = edges.points(np.longdouble(s))[:, 0].astype(np.float64)
    east = np.array([-start[1], start[0], 0]) if abs(start[2]) < 1 else np.array([1.0, 0, 0])
    east = east / np.linalg.norm(east)
    tangent = east * np.cos(np.radians(direction))
    tangent = tangent + np.cross(start, east) * np.sin(np.radians(direction))
    distance = min(10**exponent / ARCSEC_PER_RADIAN, np.pi)
    lon, lat = (float(a) for a in lon_lat(start * np.cos(distance) + tangent * np.sin(distance)))
    expected = oracle.exact_distance(lon, lat, *at)
    assert one_distance(lon, lat, *at) == pytest.approx(expected, rel=0, abs=MAX_ERROR_ARCSEC)


@few_examples
@given(longitudes, latitudes, pixels)
def test_never_farther_than_a_boundary_point(lon: float, lat: float, at: tuple[int, int]) -> None:
    order, pixel = at
    boundary = healpy.boundaries(2**order, pixel, step=16, nest=True).astype(np.longdouble)
    point = oracle.unit_vectors([lon], [lat])
    separation = oracle.angles_between(point, boundary).min() / oracle.ARCSEC
    assert one_distance(lon, lat, order, pixel) <= separation + MAX_ERROR_ARCSEC


@few_examples
@given(longitudes, latitudes, pixels)
def test_a_whole_turn_changes_nothing(lon: float, lat: float, at: tuple[int, int]) -> None:
    expected = one_distance(lon, lat, *at)
    for turned in (lon + 360, lon - 360):
        found = one_distance(turned, lat, *at)
        assert found == pytest.approx(expected, rel=0, abs=MAX_ERROR_ARCSEC)


def test_corners_are_on_the_boundary_of_all_pixels_that_share_them() -> None:
    rng = np.random.default_rng(21)
    order = np.tile(np.arange(30), 20)
    chosen = (random_pixels, cap_pixels, pole_pixels, face_edge_pixels)
    pixel = np.concatenate(
        [choose(rng, part) for choose, part in zip(chosen, np.split(order, len(chosen)))]
    )
    lon, lat = corner_positions(order, pixel)
    for corner in range(4):
        at = lon[:, corner], lat[:, corner], order, pixel
        assert distance_to_pixel(*at).max() <= MAX_ERROR_ARCSEC
        error = distance_to_pixel(*at) - oracle.exact_distances(*at)
        assert np.abs(error).max() <= MAX_ERROR_ARCSEC


@pytest.mark.parametrize("order", [0, 1, 2, 3, 7, 13, 22, 29])
def test_special_positions(order: int) -> None:
    """Against the pixels they lie in, the neighbours of these, and far ones."""
    lon, lat = special_positions()
    own = healpy.ang2pix(2**order, lon, lat, nest=True, lonlat=True)
    neighbours = healpy.get_all_neighbours(2**order, own, nest=True)
    far = np.stack([np.arange(12) * 4**order, np.arange(1, 13) * 4**order - 1]).reshape(-1, 1)
    far = np.broadcast_to(far, (24, lon.size))
    pixel = np.concatenate((own[None], neighbours, far))
    lon, lat = np.broadcast_to(lon, pixel.shape), np.broadcast_to(lat, pixel.shape)
    exists = pixel >= 0
    at = lon[exists], lat[exists], order, pixel[exists]
    error = distance_to_pixel(*at) - oracle.exact_distances(*at)
    assert np.abs(error).max() <= MAX_ERROR_ARCSEC


def test_scalar_and_array_pixels_agree() -> None:
    lon, lat = special_positions()
    one = distance_to_pixel(lon, lat, 5, 77)
    many = distance_to_pixel(lon, lat, np.full(lon.size, 5), np.full(lon.size, 77))
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("order", [0, 3, 29])
def test_points_within_a_threshold_have_at_most_that_distance(order: int) -> None:
    """Also where a rounding error decides between a threshold and a distance, to whatever point."""
    rng = np.random.default_rng(24)
    orders = np.full(200, order)
    pixel = rng.integers(0, 12 * 4**order, 200)
    start = edge_points(rng, orders, pixel)
    lon, lat = displaced(rng, start, log_uniform_distances(rng, orders))
    distance = distance_to_pixel(lon, lat, orders, pixel)
    ((*_, nearest),) = boundary._evaluate(lon, lat, orders, pixel)
    to_node = boundary.ARCSEC_PER_RADIAN * nearest
    for point in range(len(orders)):
        at = lon[point], lat[point], order, pixel[point]
        for near in (distance[point], to_node[point]):
            for threshold in (np.nextafter(near, 0), near, np.nextafter(near, np.inf)):
                assert is_within(*at, float(threshold)) == [distance[point] <= threshold]
    assert np.count_nonzero(distance < to_node) > 20


def test_no_points() -> None:
    none = np.empty(0)
    assert distance_to_pixel(none, none, none.astype(np.int64), none.astype(np.int64)).shape == (0,)


# The sides of pixels
def sides_and_points(seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    orders = any_orders(rng, COUNT) % 8
    pixels = random_pixels(rng, orders)
    lon, lat = rng.uniform(0, 360, COUNT), np.degrees(np.arcsin(rng.uniform(-1, 1, COUNT)))
    return sides_of(lon, lat, orders, pixels), lon, lat, orders, pixels


def test_the_nearest_of_many_points_on_the_sides_is_as_far_as_the_boundary() -> None:
    sides, lon, lat, orders, pixels = sides_and_points(1)
    t = np.linspace(0, 1, 2001)
    angles = evaluate(sides, np.broadcast_to(t, (4 * COUNT, len(t)))).angle
    nearest = angles.reshape(COUNT, -1).min(axis=1)
    exact = oracle.exact_distances(lon, lat, orders, pixels).astype(np.float64)
    arcsec = np.degrees(nearest) * 3600
    gap = 1.6 / 2.0**orders / (len(t) - 1) * 206265
    assert (arcsec >= exact - 1e-6).all()
    assert (arcsec <= exact + gap).all()


@pytest.mark.parametrize("seed", [2, 3])
def test_slope_and_bend_are_derivatives_of_the_cosine_of_the_angle(seed: int) -> None:
    sides, *_, orders, _ = sides_and_points(seed)
    t = np.random.default_rng(seed).uniform(0.05, 0.95, 4 * COUNT)
    before, here, after = (evaluate(sides, t + step) for step in (-STEP, 0, STEP))
    slope = (np.cos(after.angle) - np.cos(before.angle)) / (2 * STEP)
    bend = (after.slope - before.slope) / (2 * STEP)
    size = np.repeat(2.0**-orders, 4)
    np.testing.assert_allclose(here.slope / size, slope / size, atol=2e-8 / size.min() / 1e2)
    # The curvature of a polar side grows towards the pole.
    np.testing.assert_allclose(here.bend / size**2, bend / size**2, rtol=1e-4, atol=1e-3)


def test_chosen_sides_keep_all_attributes() -> None:
    sides, *_ = sides_and_points(4)
    chosen = np.array([7, 7, 3])
    taken = evaluate(sides.take(chosen), np.full(3, 0.3))
    whole = evaluate(sides, np.full(4 * COUNT, 0.3)).take(chosen)
    for name in ("angle", "slope", "bend"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(whole, name))
