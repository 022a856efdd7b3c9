"""Small skies, dense around the borders of their partitions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow as pa

from support import skies
from support.sky_catalogs import VERTEX_DEC
from support.truth import Ints, Sky
from support.write_hipscat import write_hipscat

# Where the small partitions are: both poles, vertices of three base faces, a corner of four, and
# two places without symmetry; [ra, dec, order].
TARGETS = (
    (45.0, 89.9, 6),
    (225.0, -89.9, 4),
    (0.1, VERTEX_DEC + 0.1, 6),
    (180.0, -VERTEX_DEC + 0.1, 5),
    (45.0, 0.1, 6),
    (123.4, 5.6, 5),
    (250.0, -30.0, 3),
)
HOLES = ((300.0, 5.0, 0), (30.0, -30.0, 2), (46.0, 1.0, 4))


def pixels_at(points: tuple[tuple[float, float, int], ...]) -> Ints:
    return np.array(
        [
            [order, healpy.ang2pix(1 << order, ra, dec, nest=True, lonlat=True)]
            for ra, dec, order in points
        ]
    )


def mixed_partitions() -> Ints:
    """Partitions of orders 0 to 6 around some holes."""
    holes = pixels_at(HOLES)
    sphere = skies.refined_partitions(np.concatenate([pixels_at(TARGETS), holes]))
    return sphere[~skies.inside(skies.pixel_spans(sphere)[0], skies.nested_sort(holes))]


def sky_of(
    partitions: Ints, rows: int, farthest: float, seed: int, dtype: type = np.float64
) -> Sky:
    """Rows in partitions, 1e-4 to `farthest` arcsec from their borders and corners, and inside."""
    rng = np.random.default_rng(seed)
    chosen = partitions[np.arange(rows) % len(partitions)]
    u, v = rng.random((2, rows))
    group = rng.random(rows)
    v = np.where(group < 0.8, rng.integers(0, 2, rows), v)
    u = np.where(group < 0.3, rng.integers(0, 2, rows), u)
    swap = rng.random(rows) < 0.5
    at = skies.pixel_positions(chosen, np.where(swap, u, v), np.where(swap, v, u))
    distance = np.exp(rng.uniform(np.log(1e-4), np.log(farthest), rows)) * skies.ARCSEC
    ra, dec = (values.astype(dtype) for values in skies.offset_positions(*at, distance, rng))
    pixels = skies.nested_pixels(ra.astype(np.float64), dec.astype(np.float64))
    kept = skies.inside(pixels, partitions)
    ra, dec = ra[kept], dec[kept]
    return Sky(pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec}), partitions)


def small_catalog(
    path: str | Path,
    *,
    rows: int = 3000,
    max_rows: int = 500,
    seed: int = 1,
    columns: Mapping[str, pa.Array] | None = None,
    **options: Any,
) -> Path:
    """Write a catalog of 12 or more partitions of orders 0 and up, dense around their borders.

    A third of the rows are uniform on the sphere; the others lie 0.01 to 3000 arcsec from the
    borders of the twelve pixels of order 0 and of those of order 1 in the first of them.

    Args:
        path: the catalog's directory, named like the catalog.
        rows: number of rows.
        max_rows: most rows of a partition.
        seed: of the random numbers.
        columns: columns after id, ra, dec, mag.
        options: for write_hipscat.
    Returns:
        path.
    """
    path = Path(path)
    rng = np.random.default_rng(seed)
    near = 2 * rows // 3
    pixels = np.array([[0, pixel] for pixel in range(12)] + [[1, pixel] for pixel in range(4)])
    along, side = rng.random(near), rng.integers(0, 2, near).astype(np.float64)
    swap = rng.random(near) < 0.5
    border = skies.pixel_positions(
        pixels[rng.integers(0, len(pixels), near)],
        np.where(swap, along, side),
        np.where(swap, side, along),
    )
    distance = np.exp(rng.uniform(np.log(0.01), np.log(3000.0), near)) * skies.ARCSEC
    sky = zip(
        skies.offset_positions(*border, distance, rng),
        skies.uniform_sky(rng, rows - near),
        strict=True,
    )
    ra, dec = (np.concatenate(parts) for parts in sky)
    table = pa.table(
        {
            "id": np.arange(rows),
            "ra": ra,
            "dec": dec,
            "mag": rng.normal(20.0, 2.0, rows).astype(np.float32),
            **(columns or {}),
        }
    )
    partitions = skies.adaptive_partitions(ra, dec, max_rows=max_rows)
    write_hipscat(path.parent, path.name, table, partitions, **options)
    return path
