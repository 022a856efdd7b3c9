"""A catalog on disk: its partitions and its columns."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import MAX_ORDER, pixel_ranges
from margin_cache.storage.parquet_file import open_parquet

_MAGIC = b"PAR1"


@dataclass(frozen=True)
class CatalogInfo:
    """What a catalog says about itself.

    Attributes:
        format: "hipscat" or "hats".
        path: directory of the catalog, as the user gave it; of a collection, its primary table's.
        name: name of the catalog.
        epoch: epoch of the coordinates, None if not given.
        ra_column: name of the column with right ascensions, in degrees.
        dec_column: name of the column with declinations, in degrees.
        index_column: name of the spatial index; None if there is none.
        index_order: order of the nested pixel in the spatial index.
        index_shift: number of bits to the right of the nested pixel in the spatial index.
        dataset: directory of the Parquet files inside ``path``, with a slash, or "".
        suffix: what the names of partitions end with; "/" if each is a directory of files.
    """

    format: str
    path: str
    name: str
    epoch: str | None
    ra_column: str
    dec_column: str
    index_column: str | None
    index_order: int
    index_shift: int
    dataset: str = ""
    suffix: str = ".parquet"


@dataclass(frozen=True)
class MarginSummary:
    """What a margin says about itself.

    Attributes:
        primary: the primary catalog.
        place: directory of the margin, whose name is the margin's.
        rows: number of rows.
        threshold: margin threshold in arcsec.
        order: highest order of the margin's partitions; the primary's, if it has none.
        sky_fraction: share of the sky that the margin's partitions cover.
        size: size of the margin's Parquet files in bytes.
    """

    primary: CatalogInfo
    place: Path
    rows: int
    threshold: float
    order: int
    sky_fraction: float
    size: int


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


def pixel_path(order: int, pixel: int, suffix: str = ".parquet") -> str:
    """Return the path of a pixel's file relative to the Parquet files of its catalog."""
    return f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}{suffix}"


def partition_files(info: CatalogInfo, order: int, pixel: int) -> list[Path]:
    """Return the file of a partition, or its files, by name, if it is a directory."""
    path = Path(info.path, info.dataset, pixel_path(order, pixel, info.suffix))
    if info.suffix != "/":
        return [path]
    return sorted(file for file in path.iterdir() if file.name[0] not in "._")


def partition_state(info: CatalogInfo, order: int, pixel: int) -> tuple[int, int]:
    """Return the size of a partition in bytes and the time of its last change in ns.

    Raises:
        OSError: it is not there.
    """
    states = [file.stat() for file in partition_files(info, order, pixel)]
    return (
        sum(state.st_size for state in states),
        max((state.st_mtime_ns for state in states), default=0),
    )


def read_partitions(info: CatalogInfo) -> Partitions:
    """List the partitions of a catalog, from its files, in nested order.

    Raises:
        MarginCacheError: there are none, they overlap, or partition_info.csv names others.
    """
    where = f"input_catalog_path: {info.path}"
    found = dict(_scan_partitions(info))
    listed = _listed_partitions(info)
    if listed is not None and listed != found.keys():
        missing, unlisted = sorted(listed - found.keys()), sorted(found.keys() - listed)
        problem = "lists" if missing else "does not list"
        order, pixel = (missing or unlisted)[0]
        raise MarginCacheError(
            f"{where}: partition_info.csv {problem} {pixel_path(order, pixel, info.suffix)}, "
            f"which is {'missing' if missing else 'there'} ({len(missing)} listed and missing, "
            f"{len(unlisted)} there and not listed); bring them into agreement"
        )
    if not found:
        raise MarginCacheError(f"{where}: the catalog has no partitions")
    orders, pixels = np.array(list(found), dtype=np.int64).T
    impossible = np.flatnonzero(pixels >= 12 * 4**orders)
    if len(impossible):
        name = pixel_path(orders[impossible[0]], pixels[impossible[0]], info.suffix)
        raise MarginCacheError(f"{where}: there is no such pixel as that of {name}; remove it")
    sizes, times = np.array(list(found.values()), dtype=np.int64).T
    starts, ends = pixel_ranges(orders, pixels)
    nested = np.argsort(starts)
    overlap = np.flatnonzero(ends[nested][:-1] > starts[nested][1:])
    if len(overlap):
        one, two = (pixel_path(orders[i], pixels[i]) for i in nested[overlap[0] : overlap[0] + 2])
        raise MarginCacheError(f"{where}: the partitions {one} and {two} overlap")
    return Partitions(orders, pixels, sizes, times).take(nested)


def _scan_partitions(info: CatalogInfo) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the pixel and the state of each partition that has a file in its right place."""
    pattern = re.compile(r"Npix=(\d+)" + re.escape(info.suffix.rstrip("/")))
    for order in range(MAX_ORDER + 1):
        directory = Path(info.path, info.dataset, f"Norder={order}")
        if not directory.is_dir():
            continue
        for group in directory.glob("Dir=*"):
            with os.scandir(group) as entries:
                for entry in entries:
                    match = pattern.fullmatch(entry.name)
                    if not match or group.name != f"Dir={int(match[1]) // 10000 * 10000}":
                        continue
                    pixel = int(match[1])
                    if info.suffix == "/":
                        yield (order, pixel), partition_state(info, order, pixel)
                    else:
                        yield (order, pixel), (entry.stat().st_size, entry.stat().st_mtime_ns)


def _listed_partitions(info: CatalogInfo) -> set[tuple[int, int]] | None:
    try:
        with Path(info.path, "partition_info.csv").open(newline="", encoding="utf-8") as file:
            return {(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, OSError, csv.Error):
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: partition_info.csv is damaged; it needs whole "
            "numbers in the columns Norder and Npix"
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


def check_whole(info: CatalogInfo, partitions: Partitions) -> None:
    """Check that the files of partitions end as Parquet files do.

    Two small reads a file find what an interrupted copy leaves behind before any job starts.

    Raises:
        MarginCacheError: a file is empty, truncated or not Parquet, or a partition has no file.
    """
    pixels = list(zip(partitions.orders.tolist(), partitions.pixels.tolist(), strict=True))
    # Threads, because on a network file system each read waits for the server; of many
    # partitions each, because handing over a task takes longer than a read from a local disk.
    step = max(1, len(pixels) // 256)
    parts = (pixels[start : start + step] for start in range(0, len(pixels), step))
    with ThreadPoolExecutor(16) as threads:
        for found in threads.map(partial(_first_problem, info), parts):
            if found:
                raise MarginCacheError(found)


def _first_problem(info: CatalogInfo, pixels: list[tuple[int, int]]) -> str | None:
    """Say what is wrong with the first partition that lacks a file, or has a broken one."""
    for pixel in pixels:
        files = partition_files(info, *pixel)
        if not files:
            return f"{Path(info.path, info.dataset, pixel_path(*pixel, ''))}: holds no file"
        for path in files:
            try:
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    size = os.fstat(descriptor).st_size
                    end = os.pread(descriptor, len(_MAGIC), max(size - len(_MAGIC), 0))
                finally:
                    os.close(descriptor)
            except OSError as error:
                return f"{path}: cannot be read: {error.strerror}"
            if size <= 2 * len(_MAGIC) or end != _MAGIC:
                state = "truncated or not Parquet" if size else "empty"
                return f"{path}: is {state} ({size} bytes); copy it again"
    return None


def read_schema(info: CatalogInfo, partitions: Partitions) -> pa.Schema:
    """Return the Arrow schema of a catalog, with its metadata, and check what a margin needs.

    Raises:
        MarginCacheError: the index or a coordinate column is missing or has a wrong type, or two
            columns have the same name.
    """
    common = Path(info.path, info.dataset, "_common_metadata")
    first = partition_files(info, int(partitions.orders[0]), int(partitions.pixels[0]))[0]
    source = common if common.exists() else first
    schema = open_parquet(source).schema_arrow
    check_columns(info, schema, source)
    return schema


def check_columns(info: CatalogInfo, schema: pa.Schema, source: Path) -> None:
    """Check that a file has the spatial index and the coordinates, and each column once.

    Raises:
        MarginCacheError: one is missing or has a wrong type, or two have the same name.
    """
    for name, times in Counter(schema.names).most_common(1):
        if times > 1:
            raise MarginCacheError(f"{source}: has several columns {name}; rename all but one")
    index = (
        [] if info.index_column is None else [(info.index_column, _is_index, "a 64-bit integer")]
    )
    for column, right, kind in (
        *index,
        (info.ra_column, pa.types.is_floating, "a floating-point"),
        (info.dec_column, pa.types.is_floating, "a floating-point"),
    ):
        if column not in schema.names:
            raise MarginCacheError(
                f"{source}: has no column {column}, which making a margin needs; is it the name "
                "that the catalog's metadata gives?"
            )
        if not right(schema.field(column).type):
            raise MarginCacheError(
                f"{source}: the column {column} has the type {schema.field(column).type}, "
                f"not {kind} one, as making a margin needs"
            )


def _is_index(kind: pa.DataType) -> bool:
    return kind in (pa.int64(), pa.uint64())


def check_schema(schema: pa.Schema, expected: pa.Schema, path: Path) -> None:
    """Check that a partition has the columns of its catalog.

    Raises:
        MarginCacheError: a column is missing, has another type, or stands in another place.
    """
    if schema.equals(expected):
        return
    problem = _difference(schema, expected)
    if problem:
        raise MarginCacheError(
            f"{path}: {problem}; all partitions need the columns of the catalog's "
            "_common_metadata, or of its first partition if there is none"
        )


def _difference(schema: pa.Schema, expected: pa.Schema) -> str:
    """Say what differs between the columns of two schemas; nothing if only nullability does."""
    for field in expected:
        if field.name not in schema.names:
            return f"lacks the column {field.name}"
        found = schema.field(field.name).type
        if found != field.type:
            return f"the column {field.name} has the type {found} instead of {field.type}"
    extra = [name for name in schema.names if name not in expected.names]
    if extra:
        return f"has a column {extra[0]} more than the catalog"
    return "" if schema.names == expected.names else "its columns are in another order"
