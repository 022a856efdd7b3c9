"""Points and pixels in all the places where the distance between them is hard to compute."""

from collections.abc import Callable

import healpy
import numpy as np
import numpy.typing as npt

from support import oracle

ARCSEC_PER_RADIAN = 180 * 3600 / np.pi
TRANSITION_LATITUDE = 41.8103148957786  # sin = 2/3

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Pairs = tuple[FloatArray, FloatArray, IntArray, IntArray]


# Pixels and points to test with
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
