"""Catalogs as their official readers see them: hipscat reads HiPSCat, and hats reads HATS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from hats.loaders.read_hats import read_hats
from hipscat.loaders.read_from_hipscat import read_from_hipscat

from margin_cache.errors import MarginCacheError

INDEXES = ("_hipscat_index", "_healpix_29")
OF_THE_FILE = {"Norder", "Dir", "Npix", "margin_Norder", "margin_Dir", "margin_Npix"}

Pixel = tuple[int, int]


@dataclass(frozen=True)
class AuditedCatalog:
    """A primary or a margin on disk.

    Attributes:
        files: The file of each pixel, [order, pixel], that the catalog lists.
        threshold: Arcsec, by the metadata of a margin; None in a primary.
        rows: The number of rows that the metadata say there are.
        position: The columns of right ascension and declination.
    """

    files: dict[Pixel, Path]
    threshold: float | None
    rows: int | None
    position: tuple[str, str]

    def read(self, pixel: Pixel) -> pd.DataFrame:
        """Read the rows of a pixel, by their spatial index.

        Raises:
            MarginCacheError: The file is missing, cannot be read, or has no spatial index.
        """
        path = self.files[pixel]
        try:
            with pq.ParquetFile(path) as file:
                rows = file.read().to_pandas().reset_index()
        except (OSError, ValueError) as error:
            raise MarginCacheError(f"{path}: cannot be read: {error}") from error
        index = [name for name in INDEXES if name in rows]
        if not index:
            raise MarginCacheError(f"{path}: no column {' or '.join(INDEXES)}; is it a catalog's?")
        dropped = OF_THE_FILE.intersection(rows.columns) | {"index"}.intersection(rows.columns)
        return rows.drop(columns=sorted(dropped)).set_index(index[0])


def open_catalog(path: Path) -> AuditedCatalog:
    """Open a catalog with the reader of its format.

    Raises:
        MarginCacheError: The reader does not open it.
    """
    is_older = (path / "catalog_info.json").exists()
    try:
        catalog: Any = read_from_hipscat(str(path)) if is_older else read_hats(path)
        pixels = [(int(each.order), int(each.pixel)) for each in catalog.get_healpix_pixels()]
    except Exception as error:  # readers raise anything, and that they do is the verdict
        raise MarginCacheError(f"{path}: its official reader fails: {error}") from error
    info = catalog.catalog_info
    root = path if is_older else path / "dataset"
    return AuditedCatalog(
        files={pixel: _file(root, pixel) for pixel in sorted(pixels)},
        threshold=getattr(info, "margin_threshold", None),
        rows=info.total_rows,
        position=(info.ra_column or "ra", info.dec_column or "dec"),
    )


def pixels_around(pixel: Pixel, partitions: list[Pixel], threshold: float) -> list[Pixel]:
    """Return the partitions that may have points within a threshold, in arcsec, of a pixel."""
    here = np.array(healpy.pix2vec(2 ** pixel[0], pixel[1], nest=True))
    reach = healpy.max_pixrad(2 ** pixel[0]) + np.radians(threshold / 3600) + 1e-9
    return [
        (order, number)
        for order, number in partitions
        if np.arccos(np.clip(here @ healpy.pix2vec(2**order, number, nest=True), -1, 1))
        <= reach + healpy.max_pixrad(2**order)
    ]


def _file(root: Path, pixel: Pixel) -> Path:
    order, number = pixel
    return root / f"Norder={order}/Dir={number // 10000 * 10000}/Npix={number}.parquet"
