"""Skies with names: one like a survey's, and one that hugs borders, corners and poles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from support.skies import (
    ARCSEC,
    FloatArray,
    IntArray,
    adaptive_partitions,
    inside,
    nested_pixels,
    nested_sort,
    offset_positions,
    pixel_keys,
    pixel_positions,
    pixel_spans,
    refined_partitions,
    sky_from_vectors,
    tangent_vectors,
    uniform_sky,
    vectors_from_sky,
)

# --- the survey sky -------------------------------------------------------------------------

SURVEY_ROWS = 2_000_000
SURVEY_COLUMNS = 31
SURVEY_SEED = 20240607
# Splits 32 of the 192 pixels of order 2, those of the band, when SURVEY_ROWS rows are drawn.
SURVEY_MAX_ROWS = 21_500
BAND_POLE = (192.859, 27.128)  # ra, dec [deg]: the north galactic pole
BAND_WIDTH = 5.0  # standard deviation of the latitude [deg]
ColumnMaker = Callable[[np.random.Generator, int], npt.NDArray[np.generic] | pa.Array]


def _band_sky(
    rng: np.random.Generator, n: int, width: float = BAND_WIDTH
) -> tuple[FloatArray, FloatArray]:
    """Positions along the great circle around BAND_POLE: ra and dec [deg], shape (n,) each."""
    pole = vectors_from_sky(*np.array(BAND_POLE)[:, None])
    zero, quarter = (tangent_vectors(pole, np.array([angle])) for angle in (0.0, np.pi / 2.0))
    lon = rng.uniform(0.0, 2.0 * np.pi, n)[:, None]
    lat = np.radians(rng.normal(0.0, width, n))[:, None]
    circle = np.cos(lon) * zero + np.sin(lon) * quarter
    return sky_from_vectors(np.cos(lat) * circle + np.sin(lat) * pole)


def _normal(mean: float, sigma: float, dtype: type = np.float64) -> ColumnMaker:
    """Maker of a normally distributed column."""
    return lambda rng, n: rng.normal(mean, sigma, n).astype(dtype)


def _error(scale: float, dtype: type = np.float64) -> ColumnMaker:
    """Maker of a column of positive, mostly small values."""
    return lambda rng, n: rng.gamma(2.0, scale / 2.0, n).astype(dtype)


def _words(*words: str) -> ColumnMaker:
    """Maker of a string column."""
    return lambda rng, n: pa.array(words).take(pa.array(rng.integers(0, len(words), n)))


def _survey_makers() -> dict[str, ColumnMaker]:
    """Makers of the survey's columns after id, ra and dec, in order."""
    bands = "ugrizy"
    return {
        "ra_error": _error(0.3),
        "dec_error": _error(0.3),
        "parallax": _normal(0.8, 1.5),
        "parallax_error": _error(0.4),
        "pm_ra": _normal(-1.5, 8.0),
        "pm_dec": _normal(-3.0, 8.0),
        **{f"mag_{band}": _normal(21.0 - 0.4 * i, 1.6) for i, band in enumerate(bands)},
        "n_obs": lambda rng, n: rng.poisson(40, n).astype(np.int32),
        "quality_flags": lambda rng, n: rng.integers(0, 256, n, dtype=np.int32),
        "is_variable": lambda rng, n: rng.random(n) < 0.03,
        "object_class": _words("STAR", "GALAXY", "QSO", "UNKNOWN"),
        "field": _words(*(f"tile_{i:04d}" for i in range(500))),
        **{f"magerr_{band}": _error(0.02, np.float32) for band in bands},
        "psf_flux": _error(900.0),
        "aperture_flux": _error(1000.0),
        "ellipticity": _error(0.1),
        "position_angle": lambda rng, n: rng.uniform(0.0, 180.0, n),
        "fwhm": _normal(1.1, 0.15),
    }


def survey_sky(
    rows: int = SURVEY_ROWS,
    columns: int = SURVEY_COLUMNS,
    seed: int = SURVEY_SEED,
    band_share: float = 0.5,
    band_width: float = BAND_WIDTH,
) -> pa.Table:
    """A sky like a survey's: rows that are uniform, and rows along a galactic-plane-like band.

    Args:
        rows: number of rows.
        columns: number of columns, at least 3; beyond 31, float64 columns are added.
        seed: of the random numbers.
        band_share: share of the rows that are along the band.
        band_width: standard deviation of their latitude [deg].
    Returns:
        table of `rows` rows: id, ra, dec [deg], then float64, float32, integer, bool and
        string columns.
    """
    if columns < 3:
        raise ValueError("a survey has at least the columns id, ra and dec")
    rng = np.random.default_rng(seed)
    in_band = int(rows * band_share)
    uniform, band = uniform_sky(rng, rows - in_band), _band_sky(rng, in_band, band_width)
    table = pa.table(
        {
            "id": np.arange(rows, dtype=np.int64),
            "ra": np.concatenate([uniform[0], band[0]]),
            "dec": np.concatenate([uniform[1], band[1]]),
        }
    )
    makers = _survey_makers()
    makers |= {f"feature_{i:03d}": _normal(0.0, 1.0) for i in range(columns - 3 - len(makers))}
    for name, make in list(makers.items())[: columns - 3]:
        table = table.append_column(name, pa.array(make(rng, rows)))
    return table


def survey_partitions(table: pa.Table) -> IntArray:
    """The survey sky's partitions, of orders 2 and 3 (288 of them by default); shape (n, 2).

    The limit on rows scales with the number of rows, so that smaller surveys are cut alike.
    """
    max_rows = round(SURVEY_MAX_ROWS * table.num_rows / SURVEY_ROWS)
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    return adaptive_partitions(ra, dec, max_rows=max_rows, min_order=2)


# --- the border sky -------------------------------------------------------------------------

BORDER_SEED = 20240608
BORDER_ROWS = 150_000  # drawn by default; those that fall in the hole are dropped
VERTEX_DEC = float(np.degrees(np.arcsin(2.0 / 3.0)))  # where three base faces meet, and z = 2/3
NEAREST, FARTHEST = 1e-4, 2500.0  # distances from borders [arcsec]
# Where partitions get small: (ra, dec) [deg] just inside the pixel, and its order.
BORDER_TARGETS: tuple[tuple[float, float, int], ...] = (
    # North pole: four pixels of different orders meet.
    (45.0, 89.9999, 9),
    (135.0, 89.99, 7),
    (225.0, 89.9, 4),
    # South pole.
    (45.0, -89.9999, 9),
    (135.0, -89.9999, 9),
    (225.0, -89.9999, 8),
    (315.0, -88.0, 2),
    # Vertices of three base faces, where a pixel has seven neighbours: at ra 0 one of the three
    # is a whole base face, at ra 90 the orders differ, at ra 180 they are equal.
    (0.01, VERTEX_DEC + 0.05, 9),
    (359.99, VERTEX_DEC + 0.05, 8),
    (89.99, VERTEX_DEC + 0.05, 9),
    (90.01, VERTEX_DEC + 0.05, 6),
    (90.0, VERTEX_DEC - 0.05, 3),
    (179.9, -VERTEX_DEC - 0.2, 6),
    (180.1, -VERTEX_DEC - 0.2, 6),
    (180.0, -VERTEX_DEC + 0.2, 6),
    # A corner of four base faces on the equator.
    (45.0, 0.01, 9),
    (45.0, -0.01, 8),
    (45.01, 0.0, 5),
    # z = 2/3 inside a base face: its centre, and elsewhere.
    (135.0, VERTEX_DEC + 0.01, 9),
    (135.0, VERTEX_DEC - 0.01, 7),
    (157.3, VERTEX_DEC + 0.001, 6),
    # Across ra 0, away from the vertices; and places without symmetry.
    (0.001, -60.0, 7),
    (359.999, -60.0, 6),
    (123.4, 5.6, 9),
    (200.0, -5.0, 5),
)
# The hole: pixels without partitions. One is the base face around ra 270 on the equator, with
# two vertices of three faces; others touch the north pole and the small partitions above.
BORDER_HOLE: tuple[tuple[float, float, int], ...] = (
    (315.0, 89.5, 3),
    (270.0, 0.0, 0),
    (225.0, 30.0, 1),
    (210.0, 50.0, 1),
    (245.0, -45.0, 1),
    (225.0, -15.0, 1),
    (135.0, -25.0, 1),
    (290.0, -42.0, 1),
    (330.0, 55.0, 2),
    (300.0, 40.0, 2),
    (60.0, 30.0, 2),
    (100.0, -5.0, 2),
    (30.0, -70.0, 2),
    (75.0, 45.0, 3),
    (170.0, -35.0, 4),
    (135.0, VERTEX_DEC + 2.5, 6),
    (46.0, 1.0, 7),
)
HOLE_SHARE = 0.06  # of the small partitions, dropped at random
SMALL_ORDER = 3


def _pixels_at(points: tuple[tuple[float, float, int], ...]) -> IntArray:
    """[order, pixel], shape (n, 2), of (ra, dec, order) triples."""
    ra, dec, orders = np.array(points).T
    pixels = [nested_pixels(*at) for at in zip(ra, dec, orders.astype(int), strict=True)]
    return np.column_stack([orders.astype(np.int64), np.array(pixels, dtype=np.int64)])


def border_partitions(rng: np.random.Generator) -> IntArray:
    """Partitions of orders 0 to 9 that get small at BORDER_TARGETS, around a hole; (n, 2)."""
    targets, hole = _pixels_at(BORDER_TARGETS), _pixels_at(BORDER_HOLE)
    sphere = refined_partitions(np.concatenate([targets, hole]))
    dropped = (sphere[:, 0] >= SMALL_ORDER) & (rng.random(len(sphere)) < HOLE_SHARE)
    dropped &= ~np.isin(pixel_keys(sphere), pixel_keys(targets))
    return sphere[~(dropped | inside(pixel_spans(sphere)[0], nested_sort(hole)))]


def _drawn_partitions(partitions: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    """`n` random partitions, half of them equally likely, half in proportion to their side."""
    side = 0.5 ** partitions[:, 0]
    weight = 0.5 / len(partitions) + 0.5 * side / side.sum()
    return partitions[rng.choice(len(partitions), n, p=weight)]


def _log_uniform(rng: np.random.Generator, low: float, high: float, n: int) -> FloatArray:
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def _edge_rows(
    partitions: IntArray, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Positions off random points of borders, on both sides: ra and dec [deg], shape (n,)."""
    along, side = rng.random(n), rng.integers(0, 2, n).astype(np.float64)
    swap = rng.random(n) < 0.5
    u, v = np.where(swap, side, along), np.where(swap, along, side)
    border = pixel_positions(_drawn_partitions(partitions, n, rng), u, v)
    return offset_positions(*border, _log_uniform(rng, NEAREST, FARTHEST, n) * ARCSEC, rng)


def _corner_rows(
    partitions: IntArray, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Positions off corners, all around: ra and dec [deg], shape (n,)."""
    u, v = rng.integers(0, 2, (2, n)).astype(np.float64)
    corners = pixel_positions(_drawn_partitions(partitions, n, rng), u, v)
    return offset_positions(*corners, _log_uniform(rng, NEAREST, FARTHEST, n) * ARCSEC, rng)


def _pole_rows(n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Positions at and around both poles: ra and dec [deg], shape (n,); a fifth are exact."""
    distance = _log_uniform(rng, 1e-9, FARTHEST, n) / 3600.0
    distance[: n // 5] = 0.0
    ra = rng.uniform(0.0, 360.0, n)
    ra[::4] = 90.0 * rng.integers(0, 4, ra[::4].size)
    return ra, np.where(rng.random(n) < 0.5, 1.0, -1.0) * (90.0 - distance)


def _rows_per_partition(ra: FloatArray, dec: FloatArray, partitions: IntArray) -> IntArray:
    """Number of rows inside each partition, shape (n,)."""
    pixels = np.sort(nested_pixels(ra, dec))
    starts, stops = pixel_spans(partitions)
    return np.searchsorted(pixels, stops) - np.searchsorted(pixels, starts)


def border_sky(seed: int = BORDER_SEED, rows: int = BORDER_ROWS) -> tuple[pa.Table, IntArray]:
    """A sky that hugs the borders, corners and poles of partitions of orders 0 to 9.

    A quarter of the sky has no partitions. Most rows are 1e-4 to 2500 arcsec from a border or a
    corner, evenly in the logarithm and on both sides of it; some are at a pole, exactly or
    nearly; the rest are uniform. Every partition has a row.

    Args:
        seed: of the random numbers.
        rows: how many are drawn, before those in the hole are dropped.
    Returns:
        table of id int64, ra and dec [deg] and mag float32; partitions, shape (n, 2).
    """
    rng = np.random.default_rng(seed)
    partitions = border_partitions(rng)
    groups = [
        _edge_rows(partitions, rows * 55 // 100, rng),
        _corner_rows(partitions, rows * 25 // 100, rng),
        _pole_rows(rows * 2 // 100, rng),
        uniform_sky(rng, rows * 18 // 100),
    ]
    ra, dec = (np.concatenate(column) for column in zip(*groups, strict=True))
    kept = inside(nested_pixels(ra, dec), partitions)
    ra, dec = ra[kept], dec[kept]
    empty = partitions[_rows_per_partition(ra, dec, partitions) == 0]
    middle = np.full(len(empty), 0.5)
    centres = pixel_positions(empty, middle, middle)
    ra, dec = np.append(ra, centres[0]), np.append(dec, centres[1])
    columns = {
        "id": np.arange(ra.size, dtype=np.int64),
        "ra": ra,
        "dec": dec,
        "mag": rng.uniform(14.0, 22.0, ra.size).astype(np.float32),
    }
    return pa.table(columns), partitions
