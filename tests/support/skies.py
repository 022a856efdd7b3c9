"""Skies to test and time margin caches on, written as HiPSCat catalogs.

Everything here is a pure function of its arguments (random skies take a seed), except
`write_hipscat`, which writes a catalog laid out as hipscat-import 0.3.5 does.

Conventions: right ascension `ra` and declination `dec` are in degrees; pixels are HEALPix
pixels in nested numbering; a partitioning is an int64 array of shape (n, 2) whose rows are
[order, pixel], disjoint and in nested order, which is the order of `_hipscat_index`.

    python benchmarks/skies.py survey OUT     # 2,000,000 rows, 31 columns, orders 2 and 3
    python benchmarks/skies.py border OUT     # rows that hug borders, corners and poles
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import hpgeom
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

INDEX_COLUMN = "_hipscat_index"
INDEX_ORDER = 19
# The index is a 64-bit integer: 4 + 2 * 19 bits of pixel, the rest counts rows in that pixel.
COUNTER_BITS = 64 - (4 + 2 * INDEX_ORDER)
PIXELS_PER_DIR = 10_000
ARCSEC = np.pi / 180.0 / 3600.0


# --- pixels and partitionings ---------------------------------------------------------------


def nested_pixels(ra: FloatArray, dec: FloatArray, order: int = INDEX_ORDER) -> IntArray:
    """Nested pixel of each position.

    Args:
        ra, dec: positions [deg], shape (n,).
        order: HEALPix order of the pixels.
    Returns:
        pixels, shape (n,).
    """
    return np.asarray(hpgeom.angle_to_pixel(1 << order, ra, dec, nest=True), dtype=np.int64)


def pixel_spans(partitions: IntArray, order: int = INDEX_ORDER) -> tuple[IntArray, IntArray]:
    """First and one-past-last pixel at `order` inside each partition.

    Args:
        partitions: [order, pixel], shape (n, 2), none deeper than `order`.
    Returns:
        starts and stops, each of shape (n,).
    """
    shift = 2 * (order - partitions[:, 0])
    return partitions[:, 1] << shift, (partitions[:, 1] + 1) << shift


def nested_sort(partitions: IntArray) -> IntArray:
    """The same partitions, in nested order; shape (n, 2)."""
    return partitions[np.argsort(pixel_spans(partitions)[0], kind="stable")]


def pixel_keys(partitions: IntArray) -> IntArray:
    """One integer per [order, pixel], distinct across orders; shape (n,)."""
    return partitions[:, 1] + (4 << 2 * partitions[:, 0])


def inside(pixels: IntArray, partitions: IntArray) -> npt.NDArray[np.bool_]:
    """Whether order-19 `pixels`, shape (n,), lie in one of the partitions; shape (n,)."""
    starts, stops = pixel_spans(partitions)
    at = np.searchsorted(starts, pixels, side="right") - 1
    return (at >= 0) & (pixels < stops[at])


def adaptive_partitions(
    ra: FloatArray, dec: FloatArray, *, max_rows: int, min_order: int = 0, max_order: int = 9
) -> IntArray:
    """Partition a sky as hipscat does: the coarsest pixels that hold at most `max_rows` rows.

    Args:
        ra, dec: positions [deg], shape (n,).
        max_rows: most rows a partition may hold.
        min_order, max_order: coarsest and finest order allowed.
    Returns:
        partitions with at least one row each, in nested order, shape (m, 2).
    Raises:
        ValueError: if a pixel of `max_order` holds more than `max_rows` rows.
    """
    pixels, rows = np.unique(nested_pixels(ra, dec, max_order), return_counts=True)
    if rows.size and rows.max() > max_rows:
        raise ValueError(f"a pixel of order {max_order} holds {rows.max()} rows (> {max_rows})")
    leaves = []
    for order in range(min_order, max_order + 1):
        parents, inverse = np.unique(pixels >> 2 * (max_order - order), return_inverse=True)
        fits = np.bincount(inverse, weights=rows, minlength=parents.size) <= max_rows
        leaves.append(np.column_stack([np.full(fits.sum(), order), parents[fits]]))
        keep = ~fits[inverse]
        pixels, rows = pixels[keep], rows[keep]
    return nested_sort(np.concatenate(leaves).astype(np.int64))


def refined_partitions(targets: IntArray) -> IntArray:
    """The coarsest partitioning of the whole sphere in which no partition contains a target
    pixel without being it, or being inside it.

    Args:
        targets: [order, pixel], shape (n, 2), in any order; they may contain one another.
    Returns:
        partitions that cover the sphere, in nested order, shape (m, 2).
    """
    level, leaves = np.arange(12, dtype=np.int64), []
    for order in range(int(targets[:, 0].max()) + 1):
        deeper = targets[targets[:, 0] > order]
        split = np.isin(level, deeper[:, 1] >> 2 * (deeper[:, 0] - order))
        leaves.append(np.column_stack([np.full((~split).sum(), order), level[~split]]))
        level = (4 * level[split][:, None] + np.arange(4)).ravel()
    return nested_sort(np.concatenate(leaves))


# --- writing --------------------------------------------------------------------------------


def _row_bounds(pixels: IntArray, partitions: IntArray) -> tuple[IntArray, IntArray]:
    """Rows [start, stop) of each partition among sorted order-19 pixels; all rows must fit."""
    starts, stops = pixel_spans(partitions)
    if np.any(starts[1:] < stops[:-1]):
        raise ValueError("partitions overlap or are not in nested order")
    first, last = np.searchsorted(pixels, starts), np.searchsorted(pixels, stops)
    outside = pixels.size - int((last - first).sum())
    if outside:
        raise ValueError(f"{outside} rows fall outside all partitions")
    return first, last


def _index_values(pixels: IntArray) -> npt.NDArray[np.uint64]:
    """`_hipscat_index` of rows sorted by order-19 pixel, shape (n,)."""
    counter = np.arange(pixels.size) - np.searchsorted(pixels, pixels)
    return (pixels.astype(np.uint64) << np.uint64(COUNTER_BITS)) + counter.astype(np.uint64)


def _with_pixel_columns(
    rows: pa.Table, order: int, pixel: int, index: npt.NDArray[np.uint64]
) -> pa.Table:
    """Append the four columns hipscat-import adds, in the order it adds them."""
    n = rows.num_rows
    directory = pixel // PIXELS_PER_DIR * PIXELS_PER_DIR
    return (
        rows.append_column("Norder", pa.array(np.full(n, order, dtype=np.uint8)))
        .append_column("Dir", pa.array(np.full(n, directory, dtype=np.uint64)))
        .append_column("Npix", pa.array(np.full(n, pixel, dtype=np.uint64)))
        .append_column(INDEX_COLUMN, pa.array(index))
    )


def _pandas_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` with the metadata pandas.DataFrame.to_parquet writes for a `_hipscat_index`."""
    # An empty frame has the same metadata, and no row has to pass through pandas.
    frame = schema.remove_metadata().empty_table().to_pandas().set_index(INDEX_COLUMN)
    metadata = pa.Table.from_pandas(frame, schema=schema.remove_metadata()).schema.metadata
    return schema.with_metadata({**(schema.metadata or {}), b"pandas": metadata[b"pandas"]})


def _pixel_file(order: int, pixel: int) -> str:
    """Path of a partition's file inside its catalog."""
    return f"Norder={order}/Dir={pixel // PIXELS_PER_DIR * PIXELS_PER_DIR}/Npix={pixel}.parquet"


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _write_partition_info(root: Path, partitions: IntArray) -> None:
    lines = [f"{k},{p},{p // PIXELS_PER_DIR * PIXELS_PER_DIR}\n" for k, p in partitions.tolist()]
    (root / "partition_info.csv").write_text("Norder,Npix,Dir\n" + "".join(lines))


def write_hipscat(
    path: str | Path,
    name: str,
    table: pa.Table,
    partitions: IntArray,
    *,
    row_group_size: int | None = None,
    compression: str = "snappy",
    compression_level: int | None = None,
    column_encoding: Mapping[str, str] | None = None,
    ra_column: str = "ra",
    dec_column: str = "dec",
    epoch: str = "J2000",
    index_is_pandas_index: bool = True,
) -> None:
    """Write `table` as the HiPSCat catalog `path`/`name`, as hipscat-import 0.3.5 lays it out.

    Each file holds the table's columns and then Norder, Dir, Npix and `_hipscat_index`, and is
    sorted by the latter. Rows keep their order within an order-19 pixel. Partitions without
    rows get no file and are not listed.

    Args:
        path: directory to write the catalog's directory in.
        name: name of the catalog and of its directory, which must be absent or empty.
        table: rows of any Arrow types that take() knows; positions [deg] in `ra_column` and
            `dec_column`.
        partitions: [order, pixel], shape (n, 2), disjoint, in nested order.
        row_group_size: most rows per row group; the writer's own default when None.
        compression, compression_level: Parquet codec and its level.
        column_encoding: Parquet encoding by column, for smaller files; the data are the same.
        ra_column, dec_column: names of the position columns.
        epoch: epoch of the positions, for catalog_info.json.
        index_is_pandas_index: whether pandas shall read `_hipscat_index` as the index.
    Raises:
        FileExistsError: if the catalog's directory is not empty.
        ValueError: if a row falls outside all partitions, or partitions overlap.
    """
    root = Path(path) / name
    if root.is_dir() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty")
    partitions = np.asarray(partitions, dtype=np.int64).reshape(-1, 2)
    position = (table[c].to_numpy().astype(np.float64) for c in (ra_column, dec_column))
    pixels = nested_pixels(*position)
    sorting = np.argsort(pixels, kind="stable")
    pixels = pixels[sorting]
    first, last = _row_bounds(pixels, partitions)
    index = _index_values(pixels)
    # take() looks up the chunk of every row, so many chunks would cost time per partition; and
    # the chunks of a dictionary column may each have their own dictionary.
    table = table.unify_dictionaries().combine_chunks()
    schema = _with_pixel_columns(table.slice(0, 0), 0, 0, index[:0]).schema
    if index_is_pandas_index:
        schema = _pandas_schema(schema)

    root.mkdir(parents=True, exist_ok=True)
    footers: list[pq.FileMetaData] = []
    filled = last > first
    for (order, pixel), start, stop in zip(
        partitions[filled].tolist(), first[filled], last[filled], strict=True
    ):
        file = root / _pixel_file(order, pixel)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = table.take(pa.array(sorting[start:stop]))
        pq.write_table(
            _with_pixel_columns(rows, order, pixel, index[start:stop]).replace_schema_metadata(
                schema.metadata
            ),
            file,
            row_group_size=row_group_size,
            compression=compression,
            compression_level=compression_level,
            use_dictionary=_dictionary_columns(schema, column_encoding),
            column_encoding=dict(column_encoding) if column_encoding else None,
            metadata_collector=footers,
        )
        # hipscat cuts the catalog's path off the file's path, which leaves the slash.
        footers[-1].set_file_path("/" + _pixel_file(order, pixel))
    _write_partition_info(root, partitions[filled])
    _write_info(root, name, table.num_rows, epoch, ra_column, dec_column)
    # Parquet has no type for some Arrow types (seconds), so the files' schema is read back.
    schema = pq.read_schema(file) if footers else schema
    pq.write_metadata(schema, root / "_metadata", metadata_collector=footers)
    pq.write_metadata(schema, root / "_common_metadata")


def _dictionary_columns(
    schema: pa.Schema, column_encoding: Mapping[str, str] | None
) -> bool | list[str]:
    """Columns that Parquet may dictionary-encode: it refuses to where an encoding is given."""
    if not column_encoding:
        return True
    return [column for column in schema.names if column not in column_encoding]


def _write_info(
    root: Path, name: str, rows: int, epoch: str, ra_column: str, dec_column: str
) -> None:
    """Write catalog_info.json and provenance_info.json."""
    info = {
        "catalog_name": name,
        "catalog_type": "object",
        "total_rows": rows,
        "epoch": epoch,
        "ra_column": ra_column,
        "dec_column": dec_column,
    }
    _write_json(root / "catalog_info.json", info)
    # No date and no versions: the same rows shall make the same bytes.
    _write_json(root / "provenance_info.json", {**info, "tool_args": {"tool_name": "skies.py"}})


# --- geometry -------------------------------------------------------------------------------


def uniform_sky(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """Positions uniform on the sphere: ra and dec [deg], each of shape (n,)."""
    return rng.uniform(0.0, 360.0, n), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))


def vectors_from_sky(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Unit vectors, shape (n, 3), of positions [deg], shape (n,)."""
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def sky_from_vectors(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positions ra in [0, 360) and dec [deg], shape (n,), of vectors of shape (n, 3)."""
    x, y, z = vectors.T
    ra = np.degrees(np.arctan2(y, x)) % 360.0
    # A tiny negative angle is 360.0 after the modulo.
    return np.where(ra < 360.0, ra, 0.0), np.degrees(np.arctan2(z, np.hypot(x, y)))


def tangent_vectors(vectors: FloatArray, angles: FloatArray) -> FloatArray:
    """Unit vectors perpendicular to `vectors`.

    Args:
        vectors: unit vectors, shape (n, 3).
        angles: position angles [rad] from an arbitrary zero, shape (n,).
    Returns:
        tangents, shape (n, 3).
    """
    # Any axis does that is not nearly parallel: the one with the smallest component.
    axes = np.eye(3)[np.argmin(np.abs(vectors), axis=1)]
    east = np.cross(axes, vectors)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    north = np.cross(vectors, east)
    return np.cos(angles)[:, None] * east + np.sin(angles)[:, None] * north


def offset_positions(
    ra: FloatArray, dec: FloatArray, distance: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Positions at a great-circle `distance` [rad] from others, in random directions.

    Args:
        ra, dec, distance: shape (n,); positions in degrees.
    Returns:
        ra and dec [deg], each of shape (n,).
    """
    vectors = vectors_from_sky(ra, dec)
    tangents = tangent_vectors(vectors, rng.uniform(0.0, 2.0 * np.pi, ra.size))
    moved = np.cos(distance)[:, None] * vectors + np.sin(distance)[:, None] * tangents
    return sky_from_vectors(moved)


def _every_other_bit(values: IntArray) -> IntArray:
    """Bits 0, 2, 4, ... of non-negative integers, packed together."""
    packed = values & 0x5555555555555555
    for shift, mask in (
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    ):
        packed = (packed | packed >> shift) & mask
    return packed


def pixel_positions(
    partitions: IntArray, u: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Positions at fractions (u, v) of pixels; (0, 0) is the southern corner, (1, 1) the northern.

    This is the HEALPix projection (Gorski et al. 2005) over continuous coordinates of a base
    face, so that points on a border are as exact as doubles are, which those of a finer
    pixelisation's centres would not be.

    Args:
        partitions: [order, pixel], shape (n, 2).
        u, v: fractions in [0, 1] along the north-east and north-west edges, shape (n,).
    Returns:
        ra and dec [deg], each of shape (n,).
    """
    order, pixel = partitions.T
    face, inside = pixel >> 2 * order, pixel & ((1 << 2 * order) - 1)
    x = (_every_other_bit(inside) + u) / (1 << order)
    y = (_every_other_bit(inside >> 1) + v) / (1 << order)
    ring = face // 4 + 2 - x - y  # 0 at the north pole, 1 and 3 at |z| = 2/3, 4 at the south pole
    cap = np.minimum(np.minimum(ring, 4.0 - ring), 1.0)
    height = np.where(ring < 2.0, 1.0, -1.0) * (1.0 - cap**2 / 3.0)
    z = np.where(cap < 1.0, height, (2.0 - ring) * 2.0 / 3.0)
    # In the caps 1 - z is known better than z: near a pole this keeps dec exact.
    cosine = np.where(cap < 1.0, cap * np.sqrt((2.0 - cap**2 / 3.0) / 3.0), np.sqrt(1.0 - z**2))
    # Face centres lie at multiples of 45 deg: odd ones in the caps, even ones on the equator.
    centre = 2 * (face % 4) + (face // 4 != 1)
    ra = 45.0 * (centre + (x - y) / np.where(cap > 0.0, cap, 1.0))
    return ra % 360.0, np.degrees(np.arctan2(z, cosine))


# --- the survey sky -------------------------------------------------------------------------

SURVEY_ROWS = 2_000_000
SURVEY_COLUMNS = 31
SURVEY_SEED = 20240607
# Splits 32 of the 192 pixels of order 2, those of the band, when SURVEY_ROWS rows are drawn.
SURVEY_MAX_ROWS = 21_500
BAND_POLE = (192.859, 27.128)  # ra, dec [deg]: the north galactic pole
BAND_WIDTH = 5.0  # standard deviation of the latitude [deg]

ColumnMaker = Callable[[np.random.Generator, int], npt.NDArray[np.generic] | pa.Array]


def _band_sky(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """Positions along the great circle around BAND_POLE: ra and dec [deg], shape (n,) each."""
    pole = vectors_from_sky(*np.array(BAND_POLE)[:, None])
    zero, quarter = (tangent_vectors(pole, np.array([angle])) for angle in (0.0, np.pi / 2.0))
    lon = rng.uniform(0.0, 2.0 * np.pi, n)[:, None]
    lat = np.radians(rng.normal(0.0, BAND_WIDTH, n))[:, None]
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
    rows: int = SURVEY_ROWS, columns: int = SURVEY_COLUMNS, seed: int = SURVEY_SEED
) -> pa.Table:
    """A sky like a survey's: half the rows uniform, half along a galactic-plane-like band.

    Args:
        rows: number of rows.
        columns: number of columns, at least 3; beyond 31, float64 columns are added.
        seed: of the random numbers.
    Returns:
        table of `rows` rows: id, ra, dec [deg], then float64, float32, integer, bool and
        string columns.
    """
    if columns < 3:
        raise ValueError("a survey has at least the columns id, ra and dec")
    rng = np.random.default_rng(seed)
    uniform, band = uniform_sky(rng, rows - rows // 2), _band_sky(rng, rows // 2)
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
BORDER_ROWS = 150_000  # drawn; those that fall in the hole are dropped
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


def border_sky(seed: int = BORDER_SEED) -> tuple[pa.Table, IntArray]:
    """A sky that hugs the borders, corners and poles of partitions of orders 0 to 9.

    A quarter of the sky has no partitions. Most rows are 1e-4 to 2500 arcsec from a border or a
    corner, evenly in the logarithm and on both sides of it; some are at a pole, exactly or
    nearly; the rest are uniform. Every partition has a row.

    Args:
        seed: of the random numbers.
    Returns:
        table of id int64, ra and dec [deg] and mag float32; partitions, shape (n, 2).
    """
    rng = np.random.default_rng(seed)
    partitions = border_partitions(rng)
    groups = [
        _edge_rows(partitions, BORDER_ROWS * 55 // 100, rng),
        _corner_rows(partitions, BORDER_ROWS * 25 // 100, rng),
        _pole_rows(BORDER_ROWS * 2 // 100, rng),
        uniform_sky(rng, BORDER_ROWS * 18 // 100),
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


# --- every type -----------------------------------------------------------------------------

NULL_SHARE = 0.1
UNITS = ("s", "ms", "us", "ns")
FIXED_WIDTH = 7  # of fixed-size binary values [bytes]


def parquet_holds(data_type: pa.DataType) -> bool:
    """Whether this pyarrow writes columns of a type to Parquet."""
    try:
        pq.write_table(pa.schema({"column": data_type}).empty_table(), pa.BufferOutputStream())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def _scalar_types() -> dict[str, pa.DataType]:
    """Types without children, by column name."""
    integers = (f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
    return {
        **{name: getattr(pa, name)() for name in integers},
        "float16": pa.float16(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "large_string": pa.large_string(),
        "binary": pa.binary(),
        "large_binary": pa.large_binary(),
        "fixed_size_binary": pa.binary(FIXED_WIDTH),
        "date32": pa.date32(),
        "date64": pa.date64(),
        "time32_s": pa.time32("s"),
        "time32_ms": pa.time32("ms"),
        "time64_us": pa.time64("us"),
        "time64_ns": pa.time64("ns"),
        **{f"timestamp_{unit}": pa.timestamp(unit) for unit in UNITS},
        **{f"timestamp_{unit}_utc": pa.timestamp(unit, tz="UTC") for unit in UNITS},
        "timestamp_us_santiago": pa.timestamp("us", tz="America/Santiago"),
        **{f"duration_{unit}": pa.duration(unit) for unit in UNITS},
        "decimal32": pa.decimal32(9, 2),
        "decimal64": pa.decimal64(18, 3),
        "decimal128": pa.decimal128(24, 5),
        "decimal256": pa.decimal256(50, 5),
        "dictionary_int8": pa.dictionary(pa.int8(), pa.string()),
        "dictionary_int32": pa.dictionary(pa.int32(), pa.string()),
        "null": pa.null(),
    }


def _integers(data_type: pa.DataType, rng: np.random.Generator, n: int) -> IntArray:
    """Random integers that casts turn into values of a type, of both signs where it has them."""
    if pa.types.is_integer(data_type):
        limits = np.iinfo(data_type.to_pandas_dtype())
        return rng.integers(limits.min, limits.max, n, dtype=limits.dtype, endpoint=True)
    if pa.types.is_timestamp(data_type) or pa.types.is_duration(data_type):
        century = 100 * 365 * 86_400 * 1000 ** UNITS.index(data_type.unit)
        return rng.integers(-century, century, n)
    if pa.types.is_date(data_type) or pa.types.is_decimal(data_type):
        return rng.integers(-20_000, 20_000, n)
    if pa.types.is_time(data_type):
        # Whole seconds: Python's times, to which pandas converts, have no nanoseconds.
        return rng.integers(0, 86_400, n) * 1000 ** UNITS.index(data_type.unit)
    return rng.integers(0, 100, n)


def _bytes_array(
    width: int, rng: np.random.Generator, mask: npt.NDArray[np.bool_]
) -> pa.FixedSizeBinaryArray:
    """Random words of `width` bytes, null where `mask`; shape of `mask`."""
    words = rng.integers(0, 256, (mask.size, width), dtype=np.uint8)
    values = [None if null else word.tobytes() for word, null in zip(words, mask, strict=True)]
    return pa.array(values, type=pa.binary(width))


def _scalar_array(
    data_type: pa.DataType, rng: np.random.Generator, mask: npt.NDArray[np.bool_]
) -> pa.Array:
    """Random values of a type without children, null where `mask`; shape of `mask`."""
    n = mask.size
    if pa.types.is_null(data_type):
        return pa.nulls(n)
    if pa.types.is_floating(data_type):
        return pa.array(rng.normal(0.0, 10.0, n).astype(data_type.to_pandas_dtype()), mask=mask)
    if data_type == pa.binary(FIXED_WIDTH):
        return _bytes_array(FIXED_WIDTH, rng, mask)
    numbers = pa.array(_integers(data_type, rng, n), mask=mask)
    if pa.types.is_date(data_type):
        return numbers.cast(pa.int32()).cast(pa.date32()).cast(data_type)
    if pa.types.is_time32(data_type):
        return numbers.cast(pa.int32()).cast(data_type)
    if pa.types.is_decimal(data_type):
        return numbers.cast(pa.decimal128(24, data_type.scale)).cast(data_type)
    if pa.types.is_dictionary(data_type):
        return numbers.cast(pa.string()).dictionary_encode().cast(data_type)
    if pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type):
        return numbers.cast(pa.string()).cast(data_type)
    return numbers.cast(data_type)


def _offsets(lengths: IntArray, dtype: type) -> pa.Array:
    """Offsets of lists from their lengths; shape (n,) gives (n + 1,)."""
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(dtype))


def _nested_arrays(
    rng: np.random.Generator, make_mask: Callable[[int], npt.NDArray[np.bool_]], n: int
) -> dict[str, pa.Array]:
    """Random arrays of `n` rows with children, nulls in parents and children, by column name."""
    lengths = rng.integers(0, 5, n)
    total = int(lengths.sum())
    mask = pa.array(make_mask(n))

    def floats(size: int) -> pa.Array:
        return _scalar_array(pa.float32(), rng, make_mask(size))

    def struct(size: int, nulls: pa.Array) -> pa.Array:
        word = _scalar_array(pa.string(), rng, make_mask(size))
        return pa.StructArray.from_arrays([floats(size), word], ["flux", "band"], mask=nulls)

    keys = pa.array(np.char.add("key ", np.arange(total).astype(str)).astype(object), pa.string())
    short, long = _offsets(lengths, np.int32), _offsets(lengths, np.int64)
    inner = pa.ListArray.from_arrays(_offsets(np.full(total, 2), np.int32), floats(2 * total))
    return {
        "list_float": pa.ListArray.from_arrays(short, floats(total), mask=mask),
        "list_list_float": pa.ListArray.from_arrays(short, inner, mask=mask),
        "large_list_float": pa.LargeListArray.from_arrays(long, floats(total), mask=mask),
        "list_view_float": pa.ListViewArray.from_arrays(
            short[:-1], pa.array(lengths.astype(np.int32)), floats(total), mask=mask
        ),
        "fixed_size_list": pa.FixedSizeListArray.from_arrays(floats(3 * n), 3, mask=mask),
        "struct": struct(n, mask),
        "list_struct": pa.ListArray.from_arrays(
            short, struct(total, pa.array(make_mask(total))), mask=mask
        ),
        "map": pa.MapArray.from_arrays(short, keys, floats(total), mask=mask),
    }


def typed_table(n: int, seed: int) -> pa.Table:
    """Rows uniform on the sphere, with a column of every Arrow type that Parquet can hold.

    Parquet knows no seconds and no date64: columns of these are read back with milliseconds and
    as date32. The string and binary views are left out: Parquet holds them, but pyarrow's
    take() and filter() do not know them (as of pyarrow 26).

    Args:
        n: number of rows.
        seed: of the random numbers.
    Returns:
        table of n rows: ra and dec [deg] without nulls, then columns with a tenth of nulls,
        named after their types.
    """
    rng = np.random.default_rng(seed)

    def make_mask(size: int) -> npt.NDArray[np.bool_]:
        return rng.random(size) < NULL_SHARE

    ra, dec = uniform_sky(rng, n)
    columns: dict[str, pa.Array] = {"ra": pa.array(ra), "dec": pa.array(dec)}
    for name, data_type in _scalar_types().items():
        if parquet_holds(data_type):
            columns[name] = _scalar_array(data_type, rng, make_mask(n))
    nested = _nested_arrays(rng, make_mask, n)
    columns |= {name: column for name, column in nested.items() if parquet_holds(column.type)}
    return pa.table(columns)


# --- command line ---------------------------------------------------------------------------


def main() -> None:
    """Write one of the skies as the catalog OUT/survey or OUT/border."""
    parser = argparse.ArgumentParser(description="Write a sky as a HiPSCat catalog.")
    parser.add_argument("sky", choices=("survey", "border"))
    parser.add_argument("out", type=Path, help="directory to write the catalog's directory in")
    parser.add_argument("--rows", type=int, default=SURVEY_ROWS, help="of the survey")
    parser.add_argument("--columns", type=int, default=SURVEY_COLUMNS, help="of the survey")
    parser.add_argument("--seed", type=int, help="of the random numbers")
    arguments = parser.parse_args()
    start = time.perf_counter()
    if arguments.sky == "survey":
        seed = SURVEY_SEED if arguments.seed is None else arguments.seed
        table = survey_sky(arguments.rows, arguments.columns, seed)
        partitions = survey_partitions(table)
    else:
        table, partitions = border_sky(BORDER_SEED if arguments.seed is None else arguments.seed)
    write_hipscat(arguments.out, arguments.sky, table, partitions)
    orders = partitions[:, 0]
    print(
        f"{arguments.sky}: {table.num_rows} rows, {len(partitions)} partitions of orders "
        f"{orders.min()} to {orders.max()}, {time.perf_counter() - start:.1f} s"
    )


if __name__ == "__main__":
    main()
