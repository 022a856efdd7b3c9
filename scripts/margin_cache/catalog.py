"""A catalog on disk: its partitions, its columns, and the schema of a margin made from it."""

import csv
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.errors import MarginCacheError
from margin_cache.nested import pixel_ranges

_PARTITION_FILE = re.compile(r"Npix=(\d+)\.parquet")

_MAGIC = b"PAR1"

PIXEL_COLUMNS = {"Norder": pa.uint8(), "Dir": pa.uint64(), "Npix": pa.uint64()}
"""Columns of a HiPSCat file that name the pixel that it is for, with the types hipscat gives."""


@dataclass(frozen=True)
class CatalogInfo:
    """What a catalog says about itself.

    Attributes:
        path: directory of the catalog.
        name: name of the catalog.
        epoch: epoch of the coordinates, None if not given.
        ra_column, dec_column: names of the columns with right ascension and declination, degrees.
        index_column: name of the spatial index.
        index_order: order of the nested pixel in the spatial index.
        index_shift: number of bits to the right of the nested pixel in the spatial index.
    """

    path: str
    name: str
    epoch: str | None
    ra_column: str
    dec_column: str
    index_column: str = "_hipscat_index"
    index_order: int = 19
    index_shift: int = 22


@dataclass(frozen=True)
class Partitions:
    """The partitions of a catalog in nested order, with the state of their files.

    Attributes:
        orders, pixels: the pixels, int64 of shape (n,).
        sizes: sizes of the files in bytes, int64 of shape (n,).
        times: times of the files' last change in ns, int64 of shape (n,).
    """

    orders: NDArray[np.int64]
    pixels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]

    def take(self, chosen: NDArray[np.integer]) -> "Partitions":
        """Return some of the partitions."""
        return Partitions(**{name: values[chosen] for name, values in vars(self).items()})


def pixel_path(order: int, pixel: int) -> str:
    """Return the path of a pixel's file relative to its catalog."""
    return f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"


def read_catalog_info(path: str) -> CatalogInfo:
    """Read what a HiPSCat catalog says about itself.

    Args:
        path: directory of the catalog.

    Raises:
        MarginCacheError: it is missing, or not a HiPSCat catalog of objects or sources.
    """
    where = f"input_catalog_path: {path}"
    directory = Path(path)
    if not directory.is_dir():
        raise MarginCacheError(f"{where}: there is no such directory")
    try:
        info = json.loads((directory / "catalog_info.json").read_text(encoding="utf-8"))
        kind, name = info["catalog_type"], info["catalog_name"]
    except FileNotFoundError:
        raise MarginCacheError(
            f"{where}: is not a HiPSCat catalog, it has no catalog_info.json"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise MarginCacheError(
            f"{where}: its catalog_info.json is damaged or lacks catalog_name or catalog_type"
        ) from None
    if kind not in ("object", "source"):
        raise MarginCacheError(
            f"{where}: is a catalog of type {kind}; a margin is made from one of type object or "
            "source"
        )
    if not info.get("ra_column") or not info.get("dec_column"):
        raise MarginCacheError(f"{where}: its catalog_info.json lacks ra_column or dec_column")
    return CatalogInfo(
        path=path,
        name=str(name),
        epoch=info.get("epoch"),
        ra_column=info["ra_column"],
        dec_column=info["dec_column"],
    )


def read_partitions(path: str) -> Partitions:
    """List the partitions of a catalog, from its files, in nested order.

    Args:
        path: directory of the catalog.

    Raises:
        MarginCacheError: there are none, they overlap, or partition_info.csv names others.
    """
    where = f"input_catalog_path: {path}"
    found = {
        (order, pixel): (status.st_size, status.st_mtime_ns)
        for order, pixel, status in _partition_files(path)
    }
    listed = _listed_partitions(path)
    if listed is not None and listed != found.keys():
        missing, unlisted = sorted(listed - found.keys()), sorted(found.keys() - listed)
        problem = "lists" if missing else "does not list"
        order, pixel = (missing or unlisted)[0]
        raise MarginCacheError(
            f"{where}: partition_info.csv {problem} {pixel_path(order, pixel)}, which is "
            f"{'missing' if missing else 'there'} ({len(missing)} listed and missing, "
            f"{len(unlisted)} there and not listed); bring them into agreement"
        )
    if not found:
        raise MarginCacheError(f"{where}: the catalog has no partitions")
    orders, pixels = np.array(list(found), dtype=np.int64).T
    sizes, times = np.array(list(found.values()), dtype=np.int64).T
    starts, ends = pixel_ranges(orders, pixels)
    nested = np.argsort(starts)
    overlap = np.flatnonzero(ends[nested][:-1] > starts[nested][1:])
    if len(overlap):
        one, two = (pixel_path(orders[i], pixels[i]) for i in nested[overlap[0] : overlap[0] + 2])
        raise MarginCacheError(f"{where}: the partitions {one} and {two} overlap")
    return Partitions(orders, pixels, sizes, times).take(nested)


def _partition_files(path: str) -> Iterator[tuple[int, int, os.stat_result]]:
    for order in range(30):
        directory = Path(path) / f"Norder={order}"
        if not directory.is_dir():
            continue
        for group in directory.glob("Dir=*"):
            with os.scandir(group) as entries:
                for entry in entries:
                    match = _PARTITION_FILE.fullmatch(entry.name)
                    if match and group / entry.name == Path(path) / pixel_path(
                        order, int(match[1])
                    ):
                        yield order, int(match[1]), entry.stat()


def _listed_partitions(path: str) -> set[tuple[int, int]] | None:
    try:
        with (Path(path) / "partition_info.csv").open(newline="", encoding="utf-8") as file:
            return {(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError):
        raise MarginCacheError(
            f"input_catalog_path: {path}: partition_info.csv is damaged; it needs whole numbers "
            "in the columns Norder and Npix"
        ) from None


def restrict(partitions: Partitions, wanted: tuple[tuple[int, int], ...]) -> Partitions:
    """Return the partitions that ``debug_filter_pixel_list`` names.

    Raises:
        MarginCacheError: the catalog lacks one.
    """
    there = list(zip(partitions.orders.tolist(), partitions.pixels.tolist(), strict=True))
    for pixel in wanted:
        if pixel not in set(there):
            raise MarginCacheError(
                f"debug_filter_pixel_list: the catalog has no partition {list(pixel)}"
            )
    return partitions.take(np.flatnonzero([pixel in wanted for pixel in there]))


def check_whole(path: str, partitions: Partitions) -> None:
    """Check that each partition's file ends as a Parquet file does.

    Two small reads a file find what an interrupted copy leaves behind before any job starts.

    Raises:
        MarginCacheError: a file is empty, truncated or not Parquet.
    """

    def is_whole(item: tuple[str, int]) -> bool:
        name, size = item
        if size < 12:
            return False
        try:
            with (Path(path) / name).open("rb", buffering=0) as file:
                file.seek(-4, os.SEEK_END)
                return file.read(4) == _MAGIC
        except OSError as error:
            raise MarginCacheError(
                f"{Path(path) / name}: cannot be read: {error.strerror}"
            ) from None

    names = [pixel_path(*pixel) for pixel in zip(partitions.orders, partitions.pixels, strict=True)]
    sizes = partitions.sizes.tolist()
    # Threads, because on a network file system each read waits for the server.
    with ThreadPoolExecutor(16) as threads:
        whole = threads.map(is_whole, zip(names, sizes, strict=True))
    for name, size, good in zip(names, sizes, whole, strict=True):
        if not good:
            raise MarginCacheError(
                f"{Path(path) / name}: is {'empty' if size == 0 else 'truncated or not Parquet'} "
                f"({size} bytes); copy it again"
            )


def read_schema(info: CatalogInfo, partitions: Partitions) -> pa.Schema:
    """Return the Arrow schema of a catalog, with its metadata, and check what a margin needs.

    Raises:
        MarginCacheError: the index or a coordinate column is missing or has a wrong type.
    """
    common = Path(info.path) / "_common_metadata"
    first = Path(info.path) / pixel_path(partitions.orders[0], partitions.pixels[0])
    source = common if common.exists() else first
    schema = open_parquet(source).schema_arrow
    check_columns(info, schema, source)
    return schema


def check_columns(info: CatalogInfo, schema: pa.Schema, source: Path) -> None:
    """Check that a file has the spatial index and the coordinates.

    Raises:
        MarginCacheError: one is missing or has a wrong type.
    """
    for column, right, kind in (
        (info.index_column, pa.types.is_integer, "an integer"),
        (info.ra_column, pa.types.is_floating, "a floating-point"),
        (info.dec_column, pa.types.is_floating, "a floating-point"),
    ):
        found = schema.get_all_field_indices(column)
        if len(found) != 1:
            raise MarginCacheError(
                f"{source}: has {'several columns' if found else 'no column'} {column}, which a "
                "margin is made with"
            )
        if not right(schema.field(column).type):
            raise MarginCacheError(
                f"{source}: the column {column} has the type {schema.field(column).type}, "
                f"not {kind} one"
            )


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file for reading with one thread and little memory.

    Raises:
        MarginCacheError: it is missing, unreadable, or not a whole Parquet file.
    """
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except FileNotFoundError:
        raise MarginCacheError(f"{path}: there is no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise MarginCacheError(f"{path}: cannot be read: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def check_schema(schema: pa.Schema, expected: pa.Schema, path: Path) -> None:
    """Check that a partition has the columns of its catalog.

    Raises:
        MarginCacheError: a column is missing, has another type, or stands in another place.
    """
    if schema.equals(expected):
        return
    for field in expected:
        if field.name not in schema.names:
            raise MarginCacheError(f"{path}: lacks the column {field.name} of the catalog")
        if schema.field(field.name).type != field.type:
            raise MarginCacheError(
                f"{path}: the column {field.name} has the type {schema.field(field.name).type}, "
                f"and {field.type} in the catalog's schema"
            )
    extra = [name for name in schema.names if name not in expected.names]
    if extra:
        raise MarginCacheError(f"{path}: has a column {extra[0]} that the catalog's schema lacks")
    if schema.names != expected.names:
        raise MarginCacheError(f"{path}: its columns are in another order than the catalog's")


def margin_schema(primary: pa.Schema) -> pa.Schema:
    """Return the schema of a margin: the primary's, then the pixel that each row comes from.

    The pandas metadata, where there is any, tells of the new columns as well.
    """
    schema = primary
    for name, kind in PIXEL_COLUMNS.items():
        schema = schema.append(pa.field(f"margin_{name}", kind))
    metadata = dict(schema.metadata or {})
    if b"pandas" in metadata:
        metadata[b"pandas"] = json.dumps(_with_columns(json.loads(metadata[b"pandas"]))).encode()
    return schema.with_metadata(metadata or None)


def _with_columns(pandas: dict[str, Any]) -> dict[str, Any]:
    added = [
        {
            "name": f"margin_{name}",
            "field_name": f"margin_{name}",
            "pandas_type": str(kind),
            "numpy_type": str(kind),
            "metadata": None,
        }
        for name, kind in PIXEL_COLUMNS.items()
    ]
    index = set(pandas.get("index_columns") or []) if _are_names(pandas) else set()
    columns = pandas.get("columns", [])
    # pandas lists the index after the columns.
    plain = [column for column in columns if column.get("field_name") not in index]
    return {**pandas, "columns": plain + added + columns[len(plain) :]}


def _are_names(pandas: dict[str, Any]) -> bool:
    return all(isinstance(name, str) for name in pandas.get("index_columns") or [])
