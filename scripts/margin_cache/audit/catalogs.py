"""Catalogs as their official readers see them: hipscat reads HiPSCat, and hats reads HATS."""

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

INDEXES = ("_hipscat_index", "_healpix_29")
PLACES = {"Norder", "Dir", "Npix"}
"""Columns that together say where a row is; in a margin they may be those of another file."""

SOURCES = {f"margin_{name}" for name in PLACES}
"""Columns of a HiPSCat margin that say where a row comes from."""


@dataclass(frozen=True)
class AuditedCatalog:
    """A primary or a margin on disk.

    Attributes:
        root: The directory of the partitions' directories.
        pixels: The pixels, (order, pixel), that the catalog lists, sorted.
        suffix: What the names of partitions end with; `/` if each is a directory.
        threshold: Arcsec, by the metadata of a margin; None in a primary.
        rows: The number of rows that the metadata say there are.
        index: The column of the spatial index, if the metadata name one.
        position: The columns of right ascension and declination.
    """

    root: Path
    pixels: list[Pixel]
    suffix: str
    threshold: float | None
    rows: int | None
    index: str | None
    position: tuple[str, str]

    def path(self, pixel: Pixel) -> Path:
        """Return the file of a pixel, or its directory of files."""
        order, number = pixel
        place = self.root / f"Norder={order}/Dir={number // 10000 * 10000}"
        return place / f"Npix={number}{self.suffix}"

    def parts(self, pixel: Pixel) -> list[Path]:
        """Return the files of a pixel."""
        path = self.path(pixel)
        if self.suffix != "/":
            return [path]
        return sorted(each for each in path.glob("*") if each.is_file() and each.name[0] != ".")

    def schema(self, pixel: Pixel) -> pa.Schema:
        """Read the schema of a pixel's rows.

        Raises:
            MarginCacheError: A file is missing or cannot be read.
        """
        return self.read(pixel, []).schema.remove_metadata()

    def index_of(self, pixel: Pixel) -> str:
        """Return the column of the spatial index in a pixel's files.

        Raises:
            MarginCacheError: There is none, or a file cannot be read.
        """
        names = [*INDEXES] if self.index is None else [self.index]
        schema = self.schema(pixel)
        for name in names:
            if name in schema.names:
                return name
        raise MarginCacheError(f"{self.path(pixel)}: no column {' or '.join(names)}")

    def read(self, pixel: Pixel, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the rows of a pixel; all columns, or some. With none, the schema alone.

        Raises:
            MarginCacheError: A file is missing or cannot be read, or has no such column.
        """
        parts = self.parts(pixel)
        if not parts:
            raise MarginCacheError(f"{self.path(pixel)}: no file is there")
        return pa.concat_tables([_read(path, columns) for path in parts])

    def count(self, pixel: Pixel) -> int:
        """Return the number of rows of a pixel, by the footers of its files.

        Raises:
            MarginCacheError: A file is missing or cannot be read.
        """
        parts = self.parts(pixel)
        if not parts:
            raise MarginCacheError(f"{self.path(pixel)}: no file is there")
        return sum(_count(path) for path in parts)

    def read_some(
        self, pixel: Pixel, columns: Sequence[str], wanted: npt.NDArray[np.bool_]
    ) -> pa.Table:
        """Read some of the rows of a pixel: of few, only what is stored with them.

        Args:
            pixel: Order and nested number.
            columns: The columns.
            wanted: Whether each row of the pixel is read, in the order of `read`.

        Raises:
            MarginCacheError: A file cannot be read, or was changed.
        """
        tables, start = [], 0
        for path in self.parts(pixel):
            try:
                with pq.ParquetFile(path) as file:
                    tables.append(file.schema_arrow.empty_table().select(columns))
                    for number in range(file.num_row_groups):
                        end = start + file.metadata.row_group(number).num_rows
                        if wanted[start:end].any():
                            table = file.read_row_group(number, columns=columns)
                            tables.append(table.filter(pa.array(wanted[start:end])))
                        start = end
            except (OSError, ValueError, KeyError) as error:
                raise MarginCacheError(f"{path}: cannot be read: {error}") from error
        return pa.concat_tables(tables)


def open_catalog(path: Path) -> AuditedCatalog:
    """Open a catalog with the reader of its format.

    Raises:
        MarginCacheError: The reader does not open it.
    """
    is_older = (path / "catalog_info.json").exists()
    try:
        catalog = _read_older(path) if is_older else _read_newer(path)
        pixels = [(int(each.order), int(each.pixel)) for each in catalog.get_healpix_pixels()]
    except Exception as error:  # readers raise anything, and that they do is the verdict
        raise MarginCacheError(f"{path}: its official reader fails: {error}") from error
    info = catalog.catalog_info
    return AuditedCatalog(
        root=path if is_older else Path(catalog.catalog_path) / "dataset",
        pixels=sorted(pixels),
        suffix=getattr(info, "npix_suffix", None) or ".parquet",
        threshold=getattr(info, "margin_threshold", None),
        rows=info.total_rows,
        index=getattr(info, "healpix_column", None),
        position=(info.ra_column or "ra", info.dec_column or "dec"),
    )


def of_the_file(schema: pa.Schema) -> set[str]:
    """Return the columns that say where a row is, in a catalog whose primary has a schema.

    One alone is any other number, as Npix of how many pixels a source covers.
    """
    return SOURCES | (PLACES if set(schema.names) >= PLACES else set())


def _read_older(path: Path) -> Any:
    # Each of the readers takes two seconds to import; this one much longer if it is compiled.
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    from hipscat.loaders.read_from_hipscat import read_from_hipscat

    return read_from_hipscat(str(path))


def _read_newer(path: Path) -> Any:
    from hats.loaders.read_hats import read_hats

    catalog = read_hats(path)
    return getattr(catalog, "main_catalog", catalog)  # of a collection


def _count(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError) as error:
        raise MarginCacheError(f"{path}: cannot be read: {error}") from error


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            if columns is not None and not columns:
                return file.schema_arrow.empty_table()
            lacking = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if lacking:
                raise MarginCacheError(f"{path}: no column {', '.join(lacking)}")
            return file.read(columns=columns)
    except (OSError, ValueError) as error:
        raise MarginCacheError(f"{path}: cannot be read: {error}") from error
