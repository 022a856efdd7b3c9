"""Catalogs that are audited, opened by the readers of their formats: hipscat, or hats."""

import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import healpy
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.audit.compare import ROW, Digests, Mask, Rows, row_digests
from margin_cache.audit.files import (
    PROPERTIES,
    AnyPath,
    UnreadableFile,
    download_files,
    names_below,
    open_location,
    open_parquet,
    read_json,
)
from margin_cache.audit.request import FINEST_ORDER, Options, Pixel, StoreOptions
from margin_cache.errors import MarginCacheError, RetryableError

INDEX_COLUMNS = ("_hipscat_index", "_healpix_29")

PIXEL_PATH = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)")

_IGNORED = re.compile("(^|/)[._]")  # what PyArrow skips below the directory of a dataset

Floats = npt.NDArray[np.float64]

BATCH_BYTES = 250_000_000  # uncompressed, of rows that are read at a time


@dataclass(frozen=True)
class AuditedCatalog:
    """A primary or a margin. Methods that read raise UnreadableFile.

    Attributes:
        root: Directory that contains the directories `Norder=*`.
        pixels: Pixels that the catalog lists, sorted.
        suffix: End of the names of partitions; `/` if each partition is a directory.
        threshold: Arcsec, from a margin's metadata, NaN if they have text; None for a primary.
        rows: Number of rows by the metadata.
        index_column: Spatial index, if the metadata name it.
        position_columns: Right ascension and declination, in degrees.
        is_coarse: Whether a margin may have all rows of cells of `cell_order`, by its metadata.
        only_pixels: Pixels to which a margin is restricted; empty if it is not.
    """

    root: AnyPath
    pixels: list[Pixel]
    suffix: str
    threshold: float | None
    rows: int | None
    index_column: str | None
    position_columns: tuple[str, str]
    is_hipscat: bool = False
    is_coarse: bool = False
    cell_order: int = FINEST_ORDER
    only_pixels: tuple[Pixel, ...] = ()

    def path(self, pixel: Pixel) -> AnyPath:
        """Return the file of a pixel, or its directory of files."""
        order, number = pixel
        directory = self.root / f"Norder={order}" / f"Dir={number // 10000 * 10000}"
        return directory / f"Npix={number}{self.suffix.rstrip('/')}"

    def files(self, pixel: Pixel) -> list[AnyPath]:
        """Return the files of a pixel. Without a directory it is one file, which may be missing.

        Of a directory, they are those that PyArrow reads as a dataset.
        """
        path = self.path(pixel)
        if self.suffix != "/":
            return [path]
        names = names_below(path)
        if names is None:
            raise MarginCacheError(
                f"{path}: is a directory of files, which the server does not list. Audit a "
                "local copy."
            )
        files = [path / name for name in sorted(names) if not _IGNORED.search(name)]
        if not files:
            raise UnreadableFile(f"{path}: no files found")
        return files

    def schemas(self, pixel: Pixel) -> list[pa.Schema]:
        schemas = []
        for path in self.files(pixel):
            with open_parquet(path) as file:
                schemas.append(file.schema_arrow.remove_metadata())
        return schemas

    @cached_property
    def stated_schema(self) -> pa.Schema:
        """The schema of `_common_metadata`; without columns if there is no such file."""
        try:
            with open_parquet(self.root / "_common_metadata") as file:
                return file.schema_arrow
        except UnreadableFile:
            return pa.schema([])

    def count(self, pixel: Pixel) -> int:
        number = 0
        for path in self.files(pixel):
            with open_parquet(path) as file:
                number += file.metadata.num_rows
        return number

    def read(self, pixel: Pixel, columns: Sequence[str]) -> pa.Table:
        tables = []
        for path in self.files(pixel):
            with open_parquet(path) as file:
                _check_columns(path, file, columns)
                tables.append(file.read(columns=columns).replace_schema_metadata(None))
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise UnreadableFile(f"{self.path(pixel)}: its files do not match: {error}") from None

    def positions(self, pixel: Pixel, index_column: str | None) -> Rows:
        """Read the rows of a pixel without digests.

        Without a spatial index, it is computed from the position.
        """
        names = self.position_columns if index_column is None else (index_column,)
        table = self.read(pixel, list(dict.fromkeys((*names, *self.position_columns))))
        rows = np.zeros(len(table), ROW)
        try:
            for name, column in zip(("ra", "dec"), self.position_columns, strict=True):
                rows[name] = table[column].to_numpy().astype(np.float64)
            if index_column is None:
                rows["index"] = index_of_positions(rows["ra"], rows["dec"])
            elif table[index_column].null_count:
                raise UnreadableFile(f"{self.path(pixel)}: {index_column} is null in some rows")
            else:
                rows["index"] = table[index_column].to_numpy().astype(np.uint64)
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise UnreadableFile(
                f"{self.path(pixel)}: the index or the positions are no numbers: {error}"
            ) from None
        return rows

    def digests(self, pixel: Pixel, columns: Sequence[str], is_selected: Mask) -> Digests:
        """Return the digests of some rows of a pixel, from only the row groups that contain them.

        ``is_selected`` has a value for each row, in the order of `positions`.
        """
        parts, start = [np.empty(0, np.uint64)], 0
        for path in self.files(pixel):
            with open_parquet(path) as file:
                _check_columns(path, file, columns)
                for number in range(file.num_row_groups):
                    end = start + file.metadata.row_group(number).num_rows
                    if is_selected[start:end].any():
                        parts += self._digests_of_group(
                            file, number, columns, is_selected[start:end]
                        )
                    start = end
        return np.concatenate(parts)

    def _digests_of_group(
        self, file: pq.ParquetFile, number: int, columns: Sequence[str], is_selected: Mask
    ) -> Iterator[Digests]:
        group, start = file.metadata.row_group(number), 0
        size = max(1, group.num_rows * BATCH_BYTES // max(1, group.total_byte_size))
        for batch in file.iter_batches(size, [number], columns):
            table = self._in_stated_types(pa.Table.from_batches([batch]))
            rows = np.flatnonzero(is_selected[start : start + len(batch)])
            yield row_digests(table, columns, rows)
            start += len(batch)

    def _in_stated_types(self, table: pa.Table) -> pa.Table:
        """Cast columns to the types that the catalog states, as LSDB does, if their values fit."""
        types = self.stated_schema
        for number, field in enumerate(table.schema):
            if types.names.count(field.name) == 1 and field.type != types.field(field.name).type:
                with suppress(pa.ArrowException):
                    column = table.column(number).cast(types.field(field.name).type)
                    table = table.set_column(number, field.name, column)
        return table


def _check_columns(path: AnyPath, file: pq.ParquetFile, columns: Sequence[str]) -> None:
    numbers = Counter(file.schema_arrow.names)
    wrong = next((name for name in columns if numbers[name] != 1), None)
    if wrong is not None:
        what = "several columns" if numbers[wrong] else "no column"
        raise UnreadableFile(f"{path}: {what} {wrong}")


def are_positions(ra: Floats, dec: Floats) -> Any:
    return np.isfinite(ra) & (np.abs(dec) <= 90)


def index_of_positions(ra: Floats, dec: Floats) -> Digests:
    """Return the pixels of the finest order that contain positions; 0 for impossible ones."""
    index, is_valid = np.zeros(len(ra), np.uint64), are_positions(ra, dec)
    nside = 1 << FINEST_ORDER
    index[is_valid] = healpy.ang2pix(nside, ra[is_valid], dec[is_valid], nest=True, lonlat=True)
    return index


def open_catalog(location: str, options: Options = None) -> AuditedCatalog:
    path = open_location(location, options)
    is_hipscat = bool(read_json(path / "catalog_info.json"))
    # Both readers compile functions while they are imported, which takes much longer.
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    try:
        with warnings.catch_warnings(action="ignore"):
            catalog = (_open_with_hipscat if is_hipscat else _open_with_hats)(path)
        pixels = [(int(pixel.order), int(pixel.pixel)) for pixel in catalog.get_healpix_pixels()]
    except RetryableError:
        raise
    except Exception as error:  # the readers raise errors of any type
        kind = "HiPSCat" if is_hipscat else "HATS"
        raise MarginCacheError(
            f"{location}: cannot be opened as a {kind} catalog: {error}"
        ) from error
    for order, number in pixels:
        if not 0 <= number < 12 << 2 * order:
            raise MarginCacheError(
                f"{location}: its metadata list a pixel Norder={order}, Npix={number}, which does "
                "not exist. Write its metadata again."
            )
    info = catalog.catalog_info
    threshold = getattr(info, "margin_threshold", None)
    if isinstance(threshold, str):
        threshold = math.nan
    base = Path(catalog.catalog_path) if isinstance(path, Path) and not is_hipscat else path
    is_coarse, cell_order, only_pixels = _margin_kind(base, is_hipscat, threshold)
    return AuditedCatalog(
        root=base if is_hipscat else base / "dataset",
        pixels=sorted(pixels),
        suffix=getattr(info, "npix_suffix", None) or ".parquet",
        threshold=threshold,
        rows=info.total_rows,
        index_column=getattr(info, "healpix_column", None),
        position_columns=(info.ra_column or "ra", info.dec_column or "dec"),
        is_hipscat=is_hipscat,
        is_coarse=is_coarse,
        cell_order=cell_order,
        only_pixels=only_pixels,
    )


def open_pair(
    primary: str, margin: str, options: StoreOptions = (None, None)
) -> tuple[AuditedCatalog, AuditedCatalog]:
    """Open a primary and a margin, at paths or URLs, which must be of one format."""
    first, second = open_catalog(primary, options[0]), open_catalog(margin, options[1])
    if first.is_hipscat != second.is_hipscat:
        formats = ("HiPSCat", "HATS") if second.is_hipscat else ("HATS", "HiPSCat")
        raise MarginCacheError(
            f"{margin}: is a {formats[0]} margin, but {primary} is a {formats[1]} catalog, whose "
            "rows have another index. Give the catalog in the format of the margin."
        )
    if not first.pixels:
        raise MarginCacheError(f"{primary}: has no partitions")
    return first, second


def _margin_kind(
    path: AnyPath, is_hipscat: bool, threshold: float | None
) -> tuple[bool, int, tuple[Pixel, ...]]:
    """Return whether a margin is coarse, the order of its cells, and the only pixels it is of.

    hats-import and ACID write coarse margins and record neither this nor the order, which they
    derive from the threshold; hipscat-import and this workflow record how a margin was made.
    """
    if threshold is None:
        return False, FINEST_ORDER, ()
    arguments = read_json(path / "provenance_info.json")
    for key in ("tool_args", "runtime_args"):
        value = arguments.get(key)
        arguments = value if isinstance(value, dict) else {}
    order = arguments.get("margin_order_used", arguments.get("margin_order"))
    if not isinstance(order, int) or not 0 <= order <= FINEST_ORDER:
        order = finest_cell_order(threshold) if is_threshold(threshold) else FINEST_ORDER
    only_pixels = arguments.get("debug_filter_pixel_list") or ()
    try:
        pixels = tuple((int(order), int(number)) for order, number in only_pixels)
    except (TypeError, ValueError):  # no pairs of integers
        pixels = ()
    return not arguments.get("fine_filtering", is_hipscat), order, pixels


def is_threshold(arcsec: float) -> bool:
    return math.isfinite(arcsec) and arcsec > 0


def finest_cell_order(threshold: float) -> int:
    """Return the order of the cells of a coarse margin that records none (threshold in arcsec).

    As hats-import and ACID derive it: the highest order at which the square root of a cell's area,
    divided by 1.6 because cells can be narrow, is at least the threshold.
    """
    sides = math.sqrt(math.pi / 3) / (1.6 * math.radians(threshold / 3600))
    return max(0, min(FINEST_ORDER, math.floor(math.log2(sides))))


# Each of the readers takes two seconds to import.


def _open_with_hipscat(path: AnyPath) -> Any:
    from hipscat.loaders.read_from_hipscat import read_from_hipscat

    if isinstance(path, Path):
        return read_from_hipscat(str(path))
    with TemporaryDirectory() as directory:
        found = download_files(path, ("catalog_info.json", "partition_info.csv"), directory)
        if "partition_info.csv" not in found:
            download_files(path, ("_metadata",), directory)  # which can be large
        return read_from_hipscat(directory)


def _open_with_hats(path: AnyPath) -> Any:
    from hats.loaders.read_hats import read_hats

    if isinstance(path, Path):
        catalog = read_hats(path, read_moc=False)
        return getattr(catalog, "main_catalog", catalog)  # of a collection, its primary
    with TemporaryDirectory() as directory:
        found = download_files(path, (*PROPERTIES, "partition_info.csv"), directory)
        if not found & set(PROPERTIES):
            raise FileNotFoundError(f"it has no {PROPERTIES[0]}")
        if "partition_info.csv" not in found:
            matches = map(PIXEL_PATH.match, names_below(path / "dataset") or ())
            lines = sorted({f"{match[1]},{match[2]}" for match in matches if match})
            Path(directory, "partition_info.csv").write_text("\n".join(["Norder,Npix", *lines]))
        return read_hats(directory, read_moc=False)
