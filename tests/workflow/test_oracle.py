"""The oracle, by which margins are judged, is right: by 60 digits, by healpy, by all pairs."""

import healpy
import numpy as np
import pytest
from support import oracle
from support.boundary_pairs import (
    ARCSEC_PER_RADIAN,
    PAIR_CLASSES,
    FloatArray,
    IntArray,
    belt_pixels,
    cap_pixels,
    displaced,
    edge_points,
    log_uniform_distances,
    lon_lat,
    pairs_of_class,
    pole_pixels,
    random_pixels,
)

# The oracle changes rarely, and is slow to be doubted.
pytestmark = pytest.mark.long


# The oracle itself
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


THRESHOLDS = (0.05, 60.0, 1800.0, 36000.0)
Sky = tuple[FloatArray, FloatArray, IntArray, IntArray, IntArray]


def random_sky(thresholds: tuple[float, ...]) -> Sky:
    """Rows about as far as the thresholds from borders, as brute_force_margin takes them."""
    rng = np.random.default_rng(24)
    partitions = random_partitions(rng, 3)
    destinations = np.concatenate((partitions, oracle.negative_pixels(partitions)))
    chosen = partitions[rng.integers(0, len(partitions), 50)]
    start = edge_points(rng, chosen[:, 0], chosen[:, 1])
    distance = np.resize(thresholds, 50) * rng.uniform(0, 1.5, 50) / ARCSEC_PER_RADIAN
    lon, lat = displaced(rng, start, distance)
    row_partition = np.full(lon.size, -1)
    for index, (order, pixel) in enumerate(partitions):
        inside = healpy.ang2pix(2**order, lon, lat, nest=True, lonlat=True) == pixel
        row_partition[inside] = index
    occupied = row_partition >= 0
    return lon[occupied], lat[occupied], row_partition[occupied], partitions, destinations


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_brute_force_margin_against_all_pairs(threshold: float) -> None:
    sky = random_sky((threshold,))
    lon, lat, row_partition, _, destinations = sky
    rows, targets, ambiguous = oracle.brute_force_margin(*sky, threshold)
    row, target = np.divmod(np.arange(lon.size * len(destinations)), len(destinations))
    other = row_partition[row] != target
    row, target = row[other], target[other]
    distances = oracle.exact_distances(lon[row], lat[row], *destinations[target].T)
    assert rows.size > 10
    assert ambiguous.size == 0
    assert list(zip(rows, targets)) == list(
        zip(row[distances <= threshold], target[distances <= threshold])
    )


def test_brute_force_margins_of_several_thresholds_are_those_of_each_alone() -> None:
    sky = random_sky(THRESHOLDS)
    together = oracle.brute_force_margins(*sky, THRESHOLDS)
    sizes = [len(rows) for rows, *_ in together]
    assert 0 < sizes[0] < sizes[1] < sizes[2] < sizes[3]
    for threshold, margin in zip(THRESHOLDS, together, strict=True):
        for found, alone in zip(margin, oracle.brute_force_margin(*sky, threshold), strict=True):
            np.testing.assert_array_equal(found, alone)


def test_brute_force_margin_reports_ambiguous_pairs() -> None:
    partitions = np.array([[0, 4], [0, 5]])
    lon, lat = np.array([10.0, 20.0]), np.array([0.5, 0.1])
    distance = oracle.exact_distance(lon[0], lat[0], 0, 5)
    for offset, expected in ((0.0, 1), (1e-6, 1), (3e-6, 0), (-1e-6, 1), (-3e-6, 0)):
        *_, ambiguous = oracle.brute_force_margin(
            lon, lat, np.array([0, 0]), partitions, partitions, distance + offset
        )
        assert ambiguous.size == expected
