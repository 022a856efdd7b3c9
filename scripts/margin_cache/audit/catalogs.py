"""Catalogs, opened by the readers of their formats: hipscat for HiPSCat, hats for HATS."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.audit.pixels import Pixel
from margin_cache.errors import MarginCacheError

INDEX_COLUMNS = ("_hipscat_index", "_healpix_29")

PIXEL_COLUMNS = {"Norder", "Dir", "Npix"}
"""Columns that together name the pixel of a row; in a margin, of the row's own or its new pixel."""

SOURCE_COLUMNS = {f"margin_{name}" for name in PIXEL_COLUMNS}
"""Columns of a HiPSCat margin that name the pixel that a row comes from."""


@dataclass(frozen=True)
class AuditedCatalog:
    """A primary or a margin on disk.

    Attributes:
        root: Directory that contains the directories `Norder=*`.
        pixels: Pixels that the catalog lists, sorted.
        suffix: End of the names of partitions; `/` if each partition is a directory.
        threshold: Arcsec, from the metadata of a margin; None for a primary.
        rows: Number of rows by the metadata.
        index_column: Spatial index, if the metadata name it.
        position_columns: Right ascension and declination, in degrees.
    """

    root: Path
    pixels: list[Pixel]
    suffix: str
    threshold: float | None
    rows: int | None
    index_column: str | None
    position_columns: tuple[str, str]

    def path(self, pixel: Pixel) -> Path:
        """Return the file of a pixel, or its directory of files."""
        order, number = pixel
        directory = self.root / f"Norder={order}/Dir={number // 10000 * 10000}"
        return directory / f"Npix={number}{self.suffix}"

    def files(self, pixel: Pixel) -> list[Path]:
        """Return the files of a pixel. Without a directory it is one file, which may be missing.

        Raises:
            MarginCacheError: Its directory has no files.
        """
        path = self.path(pixel)
        if self.suffix != "/":
            return [path]
        files = sorted(file for file in path.glob("*") if file.is_file() and file.name[0] != ".")
        if not files:
            raise MarginCacheError(f"{path}: no files found")
        return files

    def schema(self, pixel: Pixel) -> pa.Schema:
        """Read the schema of a pixel's rows.

        Raises:
            MarginCacheError: A file is missing or cannot be read.
        """
        return self.read(pixel, []).schema.remove_metadata()

    def index_column_of(self, pixel: Pixel) -> str:
        """Return the name of the spatial index in a pixel's files.

        Raises:
            MarginCacheError: There is none, or a file cannot be read.
        """
        names = INDEX_COLUMNS if self.index_column is None else (self.index_column,)
        schema = self.schema(pixel)
        for name in names:
            if name in schema.names:
                return name
        raise MarginCacheError(f"{self.path(pixel)}: no column {' or '.join(names)}")

    def count(self, pixel: Pixel) -> int:
        """Return the number of rows of a pixel, from the footers of its files.

        Raises:
            MarginCacheError: A file is missing or cannot be read.
        """
        return sum(_count(path) for path in self.files(pixel))

    def read(self, pixel: Pixel, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the rows of a pixel. An empty list of columns gives a table without rows.

        Raises:
            MarginCacheError: A file is missing or cannot be read, or has no such column.
        """
        return pa.concat_tables([_read(path, columns) for path in self.files(pixel)])

    def read_selected(
        self, pixel: Pixel, columns: Sequence[str], is_selected: npt.NDArray[np.bool_]
    ) -> pa.Table:
        """Read some rows of a pixel, and of its files only the row groups that contain them.

        Args:
            pixel: Order and nested number.
            columns: Names of the columns.
            is_selected: One value for each row of the pixel, in the order of `read`.

        Raises:
            MarginCacheError: A file cannot be read, or has changed.
        """
        tables, start = [], 0
        for path in self.files(pixel):
            try:
                with pq.ParquetFile(path) as file:
                    tables.append(file.schema_arrow.empty_table().select(columns))
                    for number in range(file.num_row_groups):
                        end = start + file.metadata.row_group(number).num_rows
                        if is_selected[start:end].any():
                            table = file.read_row_group(number, columns=columns)
                            tables.append(table.filter(pa.array(is_selected[start:end])))
                        start = end
            except (OSError, ValueError, KeyError) as error:
                raise _unreadable(path, error) from error
        return pa.concat_tables(tables)


def open_catalog(path: Path) -> AuditedCatalog:
    """Open a catalog with the reader of its format.

    Raises:
        MarginCacheError: The reader does not open it.
    """
    is_hipscat = (path / "catalog_info.json").exists()
    try:
        catalog = _open_with_hipscat(path) if is_hipscat else _open_with_hats(path)
        pixels = [(int(pixel.order), int(pixel.pixel)) for pixel in catalog.get_healpix_pixels()]
    except Exception as error:  # the readers raise errors of any type
        kind = "HiPSCat" if is_hipscat else "HATS"
        raise MarginCacheError(f"{path}: cannot be opened as a {kind} catalog: {error}") from error
    info = catalog.catalog_info
    return AuditedCatalog(
        root=path if is_hipscat else Path(catalog.catalog_path) / "dataset",
        pixels=sorted(pixels),
        suffix=getattr(info, "npix_suffix", None) or ".parquet",
        threshold=getattr(info, "margin_threshold", None),
        rows=info.total_rows,
        index_column=getattr(info, "healpix_column", None),
        position_columns=(info.ra_column or "ra", info.dec_column or "dec"),
    )


def columns_of_pixels(primary: pa.Schema) -> set[str]:
    """Return the names of columns that may differ between the primary and the margin.

    They name pixels, not properties of the row. PIXEL_COLUMNS count only if the primary has all
    three: a column `Npix` alone is data.
    """
    return SOURCE_COLUMNS | (PIXEL_COLUMNS if set(primary.names) >= PIXEL_COLUMNS else set())


# Each of the readers takes two seconds to import.


def _open_with_hipscat(path: Path) -> Any:
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # compiling it takes much longer
    from hipscat.loaders.read_from_hipscat import read_from_hipscat

    return read_from_hipscat(str(path))


def _open_with_hats(path: Path) -> Any:
    from hats.loaders.read_hats import read_hats

    catalog = read_hats(path)
    return getattr(catalog, "main_catalog", catalog)  # of a collection, its primary


def _count(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            if columns is not None and not columns:
                return file.schema_arrow.empty_table()
            missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if missing:
                raise MarginCacheError(f"{path}: no column {', '.join(missing)}")
            return file.read(columns=columns)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> MarginCacheError:
    return MarginCacheError(f"{path}: cannot be read: {error}")
