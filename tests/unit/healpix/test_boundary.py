"""The library's distance to pixel boundaries against the independent oracle."""

from collections.abc import Callable

import healpy
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from margin_cache.healpix import boundary
from margin_cache.healpix.boundary import distance_to_pixel, is_within
from support import oracle

MAX_ERROR_ARCSEC = 1e-6
PAIRS_PER_CLASS = 12_000
ARCSEC_PER_RADIAN = 180 * 3600 / np.pi
TRANSITION_LATITUDE = 41.8103148957786  # sin = 2/3

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Pairs = tuple[FloatArray, FloatArray, IntArray, IntArray]

few_examples = settings(max_examples=100, deadline=None, database=None)


# ---------------------------------------------------------------------------
# Pixels and points to test with
# ---------------------------------------------------------------------------


def lon_lat(vectors: npt.NDArray) -> tuple[FloatArray, FloatArray]:
    """Degrees, as doubles, of vectors of shape (3, ...)."""
    x, y, z = vectors
    lon = np.degrees(np.arctan2(y, x)) % 360
    lat = np.degrees(np.arctan2(z, np.hypot(x, y)))
    return lon.astype(np.float64), lat.astype(np.float64)


def any_orders(rng: np.random.Generator, count: int) -> IntArray:
    """All orders 0 to 29, equally often."""
    return rng.permutation(np.arange(count) % 30)


def below(rng: np.random.Generator, order: IntArray) -> IntArray:
    """Random i or j coordinates within a face."""
    return rng.integers(0, 2**order)


def few_below(rng: np.random.Generator, order: IntArray) -> IntArray:
    """Random coordinates within a face, of any magnitude."""
    return rng.integers(0, 2 ** rng.integers(0, order + 1))


def nested(order: IntArray, face: IntArray, i: IntArray, j: IntArray) -> IntArray:
    return healpy.xyf2pix(2**order, i, j, face, nest=True)


def random_pixels(rng: np.random.Generator, order: IntArray) -> IntArray:
    face = rng.integers(0, 12, order.size)
    return nested(order, face, below(rng, order), below(rng, order))


def polar_face_pixels(
    rng: np.random.Generator, order: IntArray, from_pole_i: IntArray, from_pole_j: IntArray
) -> IntArray:
    """Pixels this many steps away from the pole, in any polar face."""
    face = rng.choice([0, 1, 2, 3, 8, 9, 10, 11], order.size)
    north, last = face < 4, 2**order - 1
    i = np.where(north, last - from_pole_i, from_pole_i)
    j = np.where(north, last - from_pole_j, from_pole_j)
    return nested(order, face, i, j)


def cap_pixels(rng: np.random.Generator, order: IntArray) -> IntArray:
    return polar_face_pixels(rng, order, few_below(rng, order), few_below(rng, order))


def pole_pixels(rng: np.random.Generator, order: IntArray) -> IntArray:
    return polar_face_pixels(rng, order, 0 * order, 0 * order)


def face_edge_pixels(rng: np.random.Generator, order: IntArray) -> IntArray:
    face = rng.integers(0, 12, order.size)
    outer = np.where(rng.random(order.size) < 0.5, 0, 2**order - 1)
    other = below(rng, order)
    swap = rng.random(order.size) < 0.5
    return nested(order, face, np.where(swap, other, outer), np.where(swap, outer, other))


def belt_pixels(rng: np.random.Generator, order: IntArray) -> IntArray:
    """Pixels around the equator (equatorial faces) or |z| = 2/3 (polar faces)."""
    face = rng.integers(0, 12, order.size)
    last = 2**order - 1
    i = below(rng, order)
    j = np.clip(last - i + rng.integers(-1, 2, order.size), 0, last)
    return nested(order, face, i, j)


def displaced(
    rng: np.random.Generator, start: npt.NDArray, distance: npt.NDArray
) -> tuple[FloatArray, FloatArray]:
    """Points at the given distances (radians) from unit vectors (3, n), any direction."""
    tangent = rng.normal(size=start.shape)
    tangent = tangent - (tangent * start).sum(axis=0) * start
    tangent /= np.sqrt((tangent**2).sum(axis=0))
    return lon_lat(start * np.cos(distance) + tangent * np.sin(distance))


def log_uniform_distances(rng: np.random.Generator, order: IntArray) -> FloatArray:
    """Radians: from 1e-6 arcsec to eight pixel sizes, at most 180 degrees."""
    smallest = 1e-6 / ARCSEC_PER_RADIAN
    largest = np.minimum(8 / 2.0**order, np.pi)
    return np.exp(rng.uniform(np.log(smallest), np.log(largest)))


def edge_points(rng: np.random.Generator, order: IntArray, pixel: IntArray) -> npt.NDArray:
    """One random point of each pixel's boundary, (3, n)."""
    chosen = 4 * np.arange(order.size) + rng.integers(0, 4, order.size)
    s = rng.random(order.size).astype(np.longdouble)
    return oracle.PixelEdges.of_pixels(order, pixel).take(chosen).points(s)


def around_boundaries(
    choose: Callable[[np.random.Generator, IntArray], IntArray],
) -> Callable[[np.random.Generator, int], Pairs]:
    """Points at all distances from the boundary of the chosen pixels."""

    def pairs(rng: np.random.Generator, count: int) -> Pairs:
        order = any_orders(rng, count)
        pixel = choose(rng, order)
        start = edge_points(rng, order, pixel)
        lon, lat = displaced(rng, start, log_uniform_distances(rng, order))
        return lon, lat, order, pixel

    return pairs


def seven_neighbour_pairs(rng: np.random.Generator, count: int) -> Pairs:
    """Pixels at the eight vertices where three faces meet, points around these."""
    order = any_orders(rng, count)
    face = rng.integers(0, 12, count)
    last = 2**order - 1
    polar, first = face // 4 != 1, rng.random(count) < 0.5
    i = np.where(first, last, 0)
    j = np.where(polar, last - i, i)
    pixel = nested(order, face, i, j)
    # Corners along (x, y): east or west for polar, north or south for equatorial faces.
    quarter = np.where(polar, face % 4 + first, face % 4)
    north = np.where(polar, face < 4, first)
    vertex = oracle.unit_vectors(
        quarter * 90.0, np.where(north, TRANSITION_LATITUDE, -TRANSITION_LATITUDE)
    )
    lon, lat = displaced(rng, vertex, log_uniform_distances(rng, order))
    return lon, lat, order, pixel


def far_pairs(rng: np.random.Generator, count: int) -> Pairs:
    """Points anywhere, pixels of order 0 to 3."""
    order = rng.integers(0, 4, count)
    pixel = random_pixels(rng, order)
    lon, lat = lon_lat(rng.normal(size=(3, count)))
    return lon, lat, order, pixel


def antipodal_pairs(rng: np.random.Generator, count: int) -> Pairs:
    """Points opposite to those of the random pixels: almost 180 degrees away."""
    lon, lat, order, pixel = around_boundaries(random_pixels)(rng, count)
    return (lon + 180) % 360, -lat, order, pixel


def near_pole_pairs(rng: np.random.Generator, count: int) -> Pairs:
    """Points around the poles, where whole edges are almost equally far."""
    order = any_orders(rng, count)
    pixel = cap_pixels(rng, order)
    north = np.where(pixel >> (2 * order) < 4, 1.0, -1.0)
    pole = np.stack((0 * north, 0 * north, north)).astype(np.longdouble)
    lon, lat = displaced(rng, pole, log_uniform_distances(rng, order))
    return lon, lat, order, pixel


def curvature_centre_pairs(rng: np.random.Generator, count: int) -> Pairs:
    """Points around centres of curvature (and opposite ones), where minima are flattest."""
    order = rng.integers(0, 13, count)
    pixel = np.where(rng.random(count) < 0.5, cap_pixels(rng, order), random_pixels(rng, order))
    edges = oracle.PixelEdges.of_pixels(order, pixel)
    edges = edges.take(4 * np.arange(count) + rng.integers(0, 4, count))
    step = np.longdouble(1e-3)
    s = rng.uniform(0.01, 0.99, count)
    before, here, after = (edges.points(s + k * step) for k in (-1, 0, 1))
    first, second = (after - before) / (2 * step), (after - 2 * here + before) / step**2
    speed = np.sqrt((first**2).sum(axis=0))
    across = np.cross(here, first, axis=0) / speed
    curvature = (across * second).sum(axis=0) / speed**2
    radius = np.arctan2(np.longdouble(1), curvature)
    centre = here * np.cos(radius) + across * np.sin(radius)
    centre *= rng.choice([-1, 1], count)
    lon, lat = displaced(rng, centre, log_uniform_distances(rng, order))
    return lon, lat, order, pixel


PAIR_CLASSES: dict[str, Callable[[np.random.Generator, int], Pairs]] = {
    "random pixels": around_boundaries(random_pixels),
    "polar caps": around_boundaries(cap_pixels),
    "touching a pole": around_boundaries(pole_pixels),
    "along face edges": around_boundaries(face_edge_pixels),
    "equator and z = 2/3": around_boundaries(belt_pixels),
    "seven neighbours": seven_neighbour_pairs,
    "low orders, far points": far_pairs,
    "opposite points": antipodal_pairs,
    "points around poles": near_pole_pairs,
    "centres of curvature": curvature_centre_pairs,
}


def pairs_of_class(name: str, count: int) -> Pairs:
    seed = list(PAIR_CLASSES).index(name)
    return PAIR_CLASSES[name](np.random.default_rng(seed), count)


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


# ---------------------------------------------------------------------------
# The library against the oracle
# ---------------------------------------------------------------------------


def test_error_over_all_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert PAIRS_PER_CLASS * len(PAIR_CLASSES) >= 100_000
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
def test_points_within_are_those_whose_distance_is_no_more(order: int) -> None:
    """Also where a rounding error decides between a threshold and a distance, to whatever point."""
    rng = np.random.default_rng(24)
    orders = np.full(500, order)
    pixel = rng.integers(0, 12 * 4**order, 500)
    start = edge_points(rng, orders, pixel)
    lon, lat = displaced(rng, start, log_uniform_distances(rng, orders))
    distance = distance_to_pixel(lon, lat, orders, pixel)
    nodes = boundary._evaluate_nodes(boundary._sides(lon, lat, orders, pixel))
    to_node = boundary.ARCSEC_PER_RADIAN * nodes.angle.reshape(len(orders), -1).min(axis=1)
    for point in range(len(orders)):
        at = lon[point], lat[point], order, pixel[point]
        for near in (distance[point], to_node[point]):
            for threshold in (np.nextafter(near, 0), near, np.nextafter(near, np.inf)):
                assert is_within(*at, float(threshold)) == [distance[point] <= threshold]
    assert np.count_nonzero(distance < to_node) > 50


def test_no_points() -> None:
    none = np.empty(0)
    assert distance_to_pixel(none, none, none.astype(np.int64), none.astype(np.int64)).shape == (0,)


# ---------------------------------------------------------------------------
# The oracle itself
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIR_CLASSES)
def test_extended_precision_agrees_with_mpmath(name: str) -> None:
    at = pairs_of_class(name, 60)
    fast = oracle.exact_distances(*at)
    exact = [oracle.exact_distance(*pair) for pair in zip(*at)]
    assert np.abs(fast - exact).max() <= 1e-8


def test_oracle_follows_the_boundaries_of_healpy() -> None:
    """Boundary points of healpy are at distance 0, and none is nearer than the oracle says."""
    rng = np.random.default_rng(22)
    step = 64
    for order in (0, 0, 0, 1, 1, 2, 4, 9, 17, 29):
        orders = np.array([order])
        for choose in (random_pixels, cap_pixels, pole_pixels):
            pixel = int(choose(rng, orders)[0])
            boundary = healpy.boundaries(2**order, pixel, step=step, nest=True)
            lon, lat = lon_lat(boundary)
            assert oracle.exact_distances(lon, lat, order, pixel).max() <= 1e-8

            start = boundary[:, rng.integers(0, boundary.shape[1], 20)]
            lon, lat = displaced(rng, start, log_uniform_distances(rng, np.full(20, order)))
            points = oracle.unit_vectors(lon, lat)[:, :, None]
            separations = oracle.angles_between(points, boundary.astype(np.longdouble)[:, None])
            nearest = separations.min(axis=1) / oracle.ARCSEC
            exact = oracle.exact_distances(lon, lat, order, pixel)
            # healpy spaces its samples evenly in the same plane.
            gap = oracle.half_gap(order, step) / oracle.ARCSEC
            assert np.all(nearest >= exact - 1e-8)
            assert np.all(nearest <= exact + gap)


def test_derivative_bounds_of_the_oracle() -> None:
    """|C'| and |C''| by finite differences, for all kinds of edges."""
    rng = np.random.default_rng(23)
    order = np.repeat(np.arange(12), 150)
    step = np.longdouble(1e-4)
    for choose in (random_pixels, cap_pixels, pole_pixels, belt_pixels):
        edges = oracle.PixelEdges.of_pixels(order, choose(rng, order))
        for s in np.linspace(step, 1 - step, 21):
            before, here, after = (edges.points(s + k * step) for k in (-1, 0, 1))
            speed = np.sqrt((((after - before) / (2 * step)) ** 2).sum(axis=0))
            bend = np.sqrt((((after - 2 * here + before) / step**2) ** 2).sum(axis=0))
            assert np.all(speed <= oracle.SPEED_BOUND * edges.h)
            assert np.all((bend <= edges.bend()) | edges.is_meridian())


def random_partitions(rng: np.random.Generator, top: int) -> IntArray:
    """Disjoint pixels of mixed orders up to top which leave part of the sky empty."""
    partitions = []
    pending = [(0, face) for face in range(12)]
    while pending:
        order, pixel = pending.pop()
        if order < top and rng.random() < 0.6:
            pending += [(order + 1, 4 * pixel + child) for child in range(4)]
        elif rng.random() < 0.6:
            partitions.append((order, pixel))
    return np.array(partitions, dtype=np.int64)


def test_negative_pixels_cover_the_rest_and_are_the_largest() -> None:
    for seed in range(20):
        partitions = random_partitions(np.random.default_rng(seed), 4)
        negative = oracle.negative_pixels(partitions)
        top = 4
        finest = np.zeros(12 * 4**top, dtype=int)
        for order, pixel in np.concatenate((partitions, negative)):
            width = 4 ** (top - order)
            finest[pixel * width : (pixel + 1) * width] += 1
        assert np.all(finest == 1)
        for order, pixel in negative:
            width = 4 ** (top - order)
            parent = pixel // 4 * 4 * width
            holds = [parent <= p * 4 ** (top - k) < parent + 4 * width for k, p in partitions]
            assert order == 0 or any(holds)


def test_negative_pixels_of_an_empty_and_a_full_sky() -> None:
    assert oracle.negative_pixels(np.empty((0, 2), dtype=np.int64)).tolist() == [
        [0, face] for face in range(12)
    ]
    full = np.array([[0, face] for face in range(12)])
    assert oracle.negative_pixels(full).shape == (0, 2)


@pytest.mark.parametrize("threshold", [0.05, 60.0, 1800.0, 36000.0])
def test_brute_force_margin_against_all_pairs(threshold: float) -> None:
    rng = np.random.default_rng(24)
    partitions = random_partitions(rng, 3)
    destinations = np.concatenate((partitions, oracle.negative_pixels(partitions)))
    chosen = partitions[rng.integers(0, len(partitions), 50)]
    start = edge_points(rng, chosen[:, 0], chosen[:, 1])
    distance = threshold * rng.uniform(0, 1.5, start.shape[1]) / ARCSEC_PER_RADIAN
    lon, lat = displaced(rng, start, distance)
    row_partition = np.full(lon.size, -1)
    for index, (order, pixel) in enumerate(partitions):
        inside = healpy.ang2pix(2**order, lon, lat, nest=True, lonlat=True) == pixel
        row_partition[inside] = index
    occupied = row_partition >= 0
    lon, lat, row_partition = lon[occupied], lat[occupied], row_partition[occupied]

    rows, targets, ambiguous = oracle.brute_force_margin(
        lon, lat, row_partition, partitions, destinations, threshold
    )
    row, target = np.divmod(np.arange(lon.size * len(destinations)), len(destinations))
    other = row_partition[row] != target
    row, target = row[other], target[other]
    distances = oracle.exact_distances(lon[row], lat[row], *destinations[target].T)
    assert rows.size > 10
    assert ambiguous.size == 0
    assert list(zip(rows, targets)) == list(
        zip(row[distances <= threshold], target[distances <= threshold])
    )


def test_brute_force_margin_reports_ambiguous_pairs() -> None:
    partitions = np.array([[0, 4], [0, 5]])
    lon, lat = np.array([10.0, 20.0]), np.array([0.5, 0.1])
    distance = oracle.exact_distance(lon[0], lat[0], 0, 5)
    for offset, expected in ((0.0, 1), (1e-6, 1), (3e-6, 0), (-1e-6, 1), (-3e-6, 0)):
        *_, ambiguous = oracle.brute_force_margin(
            lon, lat, np.array([0, 0]), partitions, partitions, distance + offset
        )
        assert ambiguous.size == expected
