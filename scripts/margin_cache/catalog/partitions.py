"""Partitions of a catalog on disk: their files, and whether these are there and whole."""

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from margin_cache.catalog.model import CatalogInfo, Partition, Partitions, State
from margin_cache.catalog.spec import DIR, NORDER, NPIX, PARTITION_INFO, pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import MAX_ORDER, Pixel, as_pixels, pixel_ranges
from margin_cache.storage.files import check_ordinary, is_ordinary

_MAGIC, _MAGIC_OF_ENCRYPTED = b"PAR1", b"PARE"

_SIDE = re.compile(
    r".*(\.(tmp|temp|part|partial|filepart|crdownload|aria2|swp|bak|crc|md5|sha\d+|asc|sig)|~)",
    re.DOTALL | re.IGNORECASE,
)
"""What files beside a partition are called: not whole yet, backups and checksums."""

_GREATEST = 2**63 - 1
"""The greatest number that arrays hold."""


def partition_files(info: CatalogInfo, pixel: Pixel) -> list[Path]:
    """Return the file of a partition; if it is a directory, its files by name."""
    path = info.partition_path(pixel)
    if info.npix_suffix != "/":
        return [path]
    return sorted(file for file in path.iterdir() if file.name[0] not in "._")


def partition_state(info: CatalogInfo, pixel: Pixel) -> State:
    """Return the state of the files of a partition.

    Raises:
        OSError: it is not there.
        MarginCacheError: one of its files is a pipe, a socket or a device.
    """
    return _state_of(info, partition_files(info, pixel))


def _state_of(info: CatalogInfo, files: list[Path]) -> State:
    states = [file.stat() for file in files]
    for file, state in zip(files, states, strict=True):
        if not is_ordinary(state):
            check_ordinary(file)
    return State(
        sum(state.st_size for state in states),
        max((state.st_mtime_ns for state in states), default=0),
        _digest_of_parts(files, states) if info.npix_suffix == "/" else 0,
    )


def _digest_of_parts(files: list[Path], states: list[os.stat_result]) -> int:
    """Return a number that changes as soon as one of the files of a partition does."""
    digest = hashlib.blake2b(digest_size=8)
    for file, state in zip(files, states, strict=True):
        digest.update(os.fsencode(f"{file.name}/{state.st_size}/{state.st_mtime_ns}/"))
    return int.from_bytes(digest.digest(), "little", signed=True)


def unchanged_files(info: CatalogInfo, partition: Partition) -> list[Path]:
    """Return the files of a partition, and check that its state is still the planned one.

    Raises:
        MarginCacheError: it has changed, or is not there any more.
    """
    files = []
    try:
        files = partition_files(info, partition.pixel)
        is_unchanged = _state_of(info, files) == partition.state
    except OSError:
        is_unchanged = False
    if not is_unchanged:
        raise MarginCacheError(
            f"{info.partition_path(partition.pixel)}: was changed after the run began; start the "
            "run again"
        )
    return files


def read_partitions(info: CatalogInfo) -> Partitions:
    """List the partitions of a catalog, from its files, in nested order.

    Raises:
        MarginCacheError: there are none, they overlap, or partition_info.csv names others.
    """
    where = f"input_catalog_path: {info.path}"
    found = dict(_scan_partitions(info))
    listed = listed_partitions(info)
    if listed is not None and listed != found.keys():
        missing, unlisted = sorted(listed - found.keys()), sorted(found.keys() - listed)
        problem = "lists" if missing else "does not list"
        path = pixel_path((missing or unlisted)[0], info.npix_suffix)
        raise MarginCacheError(
            f"{where}: {PARTITION_INFO} {problem} {path}, "
            f"which is {'missing' if missing else 'there'} ({len(missing)} listed and missing, "
            f"{len(unlisted)} there and not listed); bring them into agreement"
        )
    if not found:
        raise MarginCacheError(f"{where}: the catalog has no partitions")
    _check_range(info, found.items())
    orders, pixels = np.array(list(found), dtype=np.int64).T
    sizes, times, parts = np.array(list(found.values()), dtype=np.int64).T
    starts, ends = pixel_ranges(orders, pixels)
    nested = np.argsort(starts)
    overlap = np.flatnonzero(ends[nested][:-1] > starts[nested][1:])
    if len(overlap):
        pair = nested[overlap[0] : overlap[0] + 2]
        one, two = map(pixel_path, as_pixels(orders[pair], pixels[pair]))
        raise MarginCacheError(f"{where}: the partitions {one} and {two} overlap")
    return Partitions(orders, pixels, sizes, times, parts).take(nested)


def _check_range(info: CatalogInfo, partitions: Iterable[tuple[Pixel, State]]) -> None:
    """Check that the dates of partitions are such that 64 bits hold them.

    Raises:
        MarginCacheError: one is not.
    """
    for pixel, state in partitions:
        if not -_GREATEST <= state.time <= _GREATEST:
            raise MarginCacheError(
                f"{info.partition_path(pixel)}: is dated before 1678 or after 2261; give it "
                "another date, with touch"
            )


def _scan_partitions(info: CatalogInfo) -> Iterator[tuple[Pixel, State]]:
    """Yield pixel and state of each partition.

    Raises:
        MarginCacheError: a directory cannot be listed, there is no such pixel as that of a
            partition, it is in another place than its own, or what may be one is not called so.
    """
    suffix = info.npix_suffix.rstrip("/")
    pattern = re.compile(f"{NPIX}=([0-9]+)" + re.escape(suffix))
    for order, directory in _numbered(info.parquet_dir, NORDER):
        for _, group in _numbered(directory, DIR):
            for entry in _entries(group):
                match = pattern.fullmatch(entry.name)
                if not match:
                    _check_apart(entry, f"{NPIX}=N{suffix}")
                    continue
                pixel = Pixel(order, int(match[1]))
                if order > MAX_ORDER or pixel.number >= 12 * 4**order:
                    raise MarginCacheError(
                        f"{entry.path}: there is no such pixel as that of this file; remove it"
                    )
                own = pixel_path(pixel, suffix)
                if f"{directory.name}/{group.name}/{entry.name}" != own:
                    raise MarginCacheError(
                        f"{entry.path}: is not where a partition of its pixel is due, in "
                        f"{own}; move it there, or remove it"
                    )
                try:
                    if info.npix_suffix == "/":
                        yield pixel, partition_state(info, pixel)
                    else:
                        state = entry.stat()
                        if not is_ordinary(state):
                            check_ordinary(Path(entry.path))
                        yield pixel, State(state.st_size, state.st_mtime_ns, 0)
                except OSError as error:
                    raise _unlisted(Path(error.filename or entry.path), error) from None


def _numbered(directory: Path, word: str) -> Iterator[tuple[int, Path]]:
    """Yield number and path of what is in a directory under names like ``Norder=7``."""
    for entry in _entries(directory):
        if match := re.fullmatch(rf"{word}=([0-9]+)", entry.name):
            yield int(match[1]), Path(entry.path)
        else:
            _check_apart(entry, f"{word}=N")


def _check_apart(entry: os.DirEntry[str], due: str) -> None:
    """Check that what is not taken for a partition, or a directory of some, does not look so.

    Args:
        entry: a file or directory in a directory of the catalog.
        due: what those are called that are taken for one there.

    Raises:
        MarginCacheError: it does, and its rows would be left out.
    """
    if entry.name.startswith((f"{NORDER}=", f"{DIR}=", f"{NPIX}=")) and not _SIDE.fullmatch(
        entry.name
    ):
        place = entry.path if entry.path.isprintable() else repr(entry.path)
        raise MarginCacheError(
            f"{place}: may hold rows, and would be left out, since what belongs to this catalog "
            f"is called {due} here; give it that name, or move it out of the catalog"
        )


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """List a directory, since nobody would miss the partitions in one that is left out.

    Raises:
        MarginCacheError: it cannot be listed, or is none.
    """
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError as error:
        raise _unlisted(directory, error) from None


def _unlisted(path: Path, error: OSError) -> MarginCacheError:
    return MarginCacheError(
        f"{path}: partitions are looked for here, and it cannot be read ({error.strerror}); allow "
        "that, put what is due in its place, or remove it"
    )


def listed_partitions(info: CatalogInfo) -> set[Pixel] | None:
    """Return the partitions that partition_info.csv lists, or None if there is no such file.

    Raises:
        MarginCacheError: it cannot be read.
    """
    where, path = f"input_catalog_path: {info.path}", Path(info.path, PARTITION_INFO)
    check_ordinary(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {Pixel(int(row[NORDER]), int(row[NPIX])) for row in csv.DictReader(file)}
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return None
        raise MarginCacheError(
            f"{where}: {PARTITION_INFO} cannot be read ({error.strerror}); allow that, or remove it"
        ) from None
    except (KeyError, TypeError, ValueError, csv.Error):
        raise MarginCacheError(
            f"{where}: {PARTITION_INFO} is damaged; it needs whole numbers in the columns "
            f"{NORDER} and {NPIX}"
        ) from None


def restrict(partitions: Partitions, wanted: tuple[tuple[int, int], ...]) -> Partitions:
    """Return the partitions that overlap one of the pixels of ``debug_filter_pixel_list``.

    Raises:
        MarginCacheError: none overlaps one of the pixels.
    """
    starts, ends = pixel_ranges(partitions.orders, partitions.pixels)
    chosen = np.zeros(len(starts), dtype=bool)
    for pixel, first, last in zip(wanted, *pixel_ranges(*np.array(wanted).T), strict=True):
        # Partitions are in nested order and disjoint, so both ends ascend.
        overlapping = slice(np.searchsorted(ends, first, "right"), np.searchsorted(starts, last))
        if overlapping.start == overlapping.stop:
            raise MarginCacheError(
                f"debug_filter_pixel_list: the catalog has no partition that overlaps {list(pixel)}"
            )
        chosen[overlapping] = True
    return partitions.take(np.flatnonzero(chosen))


def check_whole(info: CatalogInfo, partitions: Partitions) -> None:
    """Check that the files of partitions end as Parquet files do.

    Two small reads a file find what an interrupted copy leaves behind before any job starts. Of a
    remote catalog, whose objects appear as a whole, nothing is read here.

    Raises:
        MarginCacheError: a file is empty, truncated or not Parquet, or a partition has no file.
    """
    if info.url:
        return
    pixels = list(as_pixels(partitions.orders, partitions.pixels))
    # Threads, because on a network file system each read waits for the server; of many
    # partitions each, because handing over a task takes longer than a read from a local disk.
    step = max(1, len(pixels) // 256)
    parts = (pixels[start : start + step] for start in range(0, len(pixels), step))
    with ThreadPoolExecutor(16) as threads:
        for found in threads.map(partial(_first_problem, info), parts):
            if found:
                raise MarginCacheError(found)


def _first_problem(info: CatalogInfo, pixels: list[Pixel]) -> str | None:
    """Say what is wrong with the first partition that lacks a file, or has a broken one."""
    for pixel in pixels:
        files = partition_files(info, pixel)
        if not files:
            return f"{info.partition_path(pixel)}: holds no file"
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
