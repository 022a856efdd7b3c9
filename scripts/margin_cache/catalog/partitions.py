"""Partitions of a catalog on disk: their files, and whether these are there and whole."""

import csv
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from margin_cache.catalog.model import CatalogInfo, Partitions, pixel_dir, pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import MAX_ORDER, pixel_ranges

_MAGIC, _MAGIC_OF_ENCRYPTED = b"PAR1", b"PARE"

_GREATEST = 2**63 - 1
"""The greatest number that arrays hold."""


def partition_files(info: CatalogInfo, order: int, pixel: int) -> list[Path]:
    """Return the file of a partition, or its files, by name, if it is a directory."""
    path = info.partition_path(order, pixel)
    if info.npix_suffix != "/":
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
            f"{where}: partition_info.csv {problem} {pixel_path(order, pixel, info.npix_suffix)}, "
            f"which is {'missing' if missing else 'there'} ({len(missing)} listed and missing, "
            f"{len(unlisted)} there and not listed); bring them into agreement"
        )
    if not found:
        raise MarginCacheError(f"{where}: the catalog has no partitions")
    _check_range(info, found)
    orders, pixels = np.array(list(found), dtype=np.int64).T
    impossible = np.flatnonzero(pixels >= 12 * 4**orders)
    if len(impossible):
        name = pixel_path(orders[impossible[0]], pixels[impossible[0]], info.npix_suffix)
        raise MarginCacheError(f"{where}: there is no such pixel as that of {name}; remove it")
    sizes, times = np.array(list(found.values()), dtype=np.int64).T
    starts, ends = pixel_ranges(orders, pixels)
    nested = np.argsort(starts)
    overlap = np.flatnonzero(ends[nested][:-1] > starts[nested][1:])
    if len(overlap):
        one, two = (pixel_path(orders[i], pixels[i]) for i in nested[overlap[0] : overlap[0] + 2])
        raise MarginCacheError(f"{where}: the partitions {one} and {two} overlap")
    return Partitions(orders, pixels, sizes, times).take(nested)


def _check_range(info: CatalogInfo, found: Mapping[tuple[int, int], tuple[int, int]]) -> None:
    """Check that the numbers and times of partitions are such that 64 bits hold them.

    Raises:
        MarginCacheError: one is not.
    """
    for (order, pixel), (_, time) in found.items():
        if pixel > _GREATEST:
            name = pixel_path(order, pixel, info.npix_suffix)
            raise MarginCacheError(
                f"input_catalog_path: {info.path}: there is no such pixel as that of {name}; "
                "remove it"
            )
        if not -_GREATEST <= time <= _GREATEST:
            raise MarginCacheError(
                f"{info.partition_path(order, pixel)}: is dated before 1678 or after 2261; give it "
                "another date, with touch"
            )


def _scan_partitions(info: CatalogInfo) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield pixel and state of each partition that has a file in the directory of its pixel."""
    pattern = re.compile(r"Npix=(\d+)" + re.escape(info.npix_suffix.rstrip("/")))
    for order in range(MAX_ORDER + 1):
        directory = info.parquet_dir / f"Norder={order}"
        if not directory.is_dir():
            continue
        # Not glob, to which a directory that may not be read is an empty one.
        for group in (path for path in directory.iterdir() if path.name.startswith("Dir=")):
            with os.scandir(group) as entries:
                for entry in entries:
                    match = pattern.fullmatch(entry.name)
                    if not match or group.name != f"Dir={pixel_dir(int(match[1]))}":
                        continue
                    pixel = int(match[1])
                    if info.npix_suffix == "/":
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
            return f"{info.partition_path(*pixel)}: holds no file"
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
            if end == _MAGIC_OF_ENCRYPTED:
                return (
                    f"{path}: is encrypted, which is not read here; write the catalog again "
                    "without encryption"
                )
            if size <= 2 * len(_MAGIC) or end != _MAGIC:
                state = "truncated or not Parquet" if size else "empty"
                return f"{path}: is {state} ({size} bytes); copy it again"
    return None
