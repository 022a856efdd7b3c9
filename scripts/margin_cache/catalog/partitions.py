"""The partitions of a catalog: their files, the state of these, and what can be wrong with them."""

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import numpy as np

from margin_cache.catalog.formats import format_of
from margin_cache.catalog.model import CatalogInfo, Partition, Partitions, State
from margin_cache.catalog.spec import DIR, NORDER, NPIX, PARTITION_INFO, pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import MAX_ORDER, Pixel, as_pixels, pixel_ranges
from margin_cache.storage.catalog_files import MAGIC, TAIL_BYTES

_IGNORED_SUFFIX = re.compile(
    r".*(\.(tmp|temp|part|partial|filepart|crdownload|aria2|swp|bak|crc|md5|sha\d+|asc|sig)|~)",
    re.DOTALL | re.IGNORECASE,
)
"""Names of unfinished downloads, backups and checksums, which are left beside partitions."""

Result = TypeVar("Result")

_READERS = 16

_ENDS_BYTES = 32 << 20
"""Bytes at the ends of files that are compared, of all files together; of each, all its footer."""


def partition_files(info: CatalogInfo, pixel: Pixel) -> list[str]:
    """Return the paths, in the catalog, of a partition's files; OSError if it is missing."""
    path = info.partition_path(pixel)
    if info.npix_suffix != "/":
        return [path]
    return sorted(f"{path}/{name}" for name in info.files.names(path) if name[0] not in "._")


def state_of(info: CatalogInfo, files: list[str]) -> State:
    """Return the state of a partition's files; OSError if one is missing."""
    states = [info.files.state(file) for file in files]
    parts = 0
    if info.npix_suffix == "/":
        digest = hashlib.blake2b(digest_size=8)
        for file, state in zip(files, states, strict=True):
            name = file.rpartition("/")[2]
            digest.update(os.fsencode(f"{name}/{state.size}/{state.version}/"))
        parts = int.from_bytes(digest.digest(), "little", signed=True)
    version = max((state.version for state in states), default=0)
    return State(sum(state.size for state in states), version, parts)


def ends_digest(info: CatalogInfo, partitions: Partitions) -> str:
    """Return a digest of sizes and ends of files, which copies share; "" if they have changed."""
    if info.url:
        return ""
    end_bytes = _ENDS_BYTES // len(partitions)
    try:
        digests = list(_in_threads(partial(_digest_of_ends, info, end_bytes), partitions))
    except OSError:
        return ""
    return "" if b"" in digests else hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()


def _in_threads(call: Callable[[Partitions], Result], partitions: Partitions) -> Iterator[Result]:
    """Call a function for parts of the partitions, in threads, since file servers are slow."""
    step = max(1, len(partitions) // 256)  # starting a call takes longer than a local read
    slices = [slice(start, start + step) for start in range(0, len(partitions), step)]
    with ThreadPoolExecutor(_READERS) as threads:
        yield from threads.map(call, map(partitions.take, slices))


def _digest_of_ends(info: CatalogInfo, end_bytes: int, partitions: Partitions) -> bytes:
    """Return a digest of the ends, or the footers, of files; empty if one has another state."""
    digest = hashlib.blake2b(digest_size=16)
    for pixel, state in partitions:
        files = partition_files(info, pixel)
        for file in files:
            size, end = _read_end(info.files.name(file), end_bytes)
            footer = int.from_bytes(end[-TAIL_BYTES : -len(MAGIC)], "little") + TAIL_BYTES
            if len(end) < footer < size:
                size, end = _read_end(info.files.name(file), footer)
            digest.update(os.fsencode(f"{file.rpartition('/')[2]}/{size}/") + end)
        if state_of(info, files) != state:
            return b""
    return digest.digest()


def unchanged_files(info: CatalogInfo, partition: Partition) -> list[str]:
    """Return the files of a partition, and check that its state is still the planned one."""
    with suppress(OSError):
        files = partition_files(info, partition.pixel)
        if state_of(info, files) == partition.state:
            return files
    raise MarginCacheError(
        f"{info.partition_name(partition.pixel)}: was changed after the run began. Start the run "
        "again."
    )


def read_partitions(info: CatalogInfo) -> Partitions:
    """List the partition files of a catalog."""
    where = f"input_catalog_path: {info.path}"
    states = dict(_scan_partitions(info))
    listed = listed_partitions(info)
    if listed is not None and listed != states.keys():
        missing, unlisted = sorted(listed - states.keys()), sorted(states.keys() - listed)
        path = pixel_path((missing or unlisted)[0], info.npix_suffix)
        problem = f"lists {path}, which is missing" if missing else f"does not list {path}"
        raise MarginCacheError(
            f"{where}: {PARTITION_INFO} {problem} (missing: {len(missing)}, "
            f"not listed: {len(unlisted)}). Correct the list, or copy missing files again."
        )
    if not states:
        raise MarginCacheError(f"{where}: the catalog has no partitions")
    orders, pixels = np.array(list(states), dtype=np.int64).T
    sizes, times, parts = np.array(list(states.values()), dtype=np.int64).T
    starts, ends = pixel_ranges(orders, pixels)
    nested = np.argsort(starts)
    overlap = np.flatnonzero(ends[nested][:-1] > starts[nested][1:])
    if len(overlap):
        pair = nested[overlap[0] : overlap[0] + 2]
        first, second = map(pixel_path, as_pixels(orders[pair], pixels[pair]))
        raise MarginCacheError(
            f"{where}: the partitions {first} and {second} overlap. Remove the wrong one."
        )
    return Partitions(orders, pixels, sizes, times, parts).take(nested)


def _scan_partitions(info: CatalogInfo) -> Iterator[tuple[Pixel, State]]:
    suffix = info.npix_suffix.rstrip("/")
    for order, directory in _numbered(info, info.dataset, NORDER):
        for _, group in _numbered(info, directory, DIR):
            for number, path in _numbered(info, group, NPIX, suffix):
                pixel, name = Pixel(order, number), info.files.name(path)
                if order > MAX_ORDER or number >= 12 * 4**order:
                    raise MarginCacheError(f"{name}: this pixel does not exist. Remove it.")
                own = pixel_path(pixel, suffix)
                if path != info.parquet_path(own):
                    raise MarginCacheError(
                        f"{name}: is in the wrong directory. Move it to "
                        f"{info.files.name(info.parquet_path(own))}, or remove it."
                    )
                try:
                    yield pixel, state_of(info, partition_files(info, pixel))
                except OSError as error:
                    raise _unlisted(error.filename or name, error) from None


def _numbered(
    info: CatalogInfo, directory: str, word: str, suffix: str = ""
) -> Iterator[tuple[int, str]]:
    """Yield number and path of entries with names like ``Norder=7``; refuse similar names."""
    try:
        names = info.files.names(directory)
    except OSError as error:
        raise _unlisted(info.files.name(directory), error) from None
    pattern = re.compile(f"{word}=([0-9]+){re.escape(suffix)}")
    for name in names:
        path = f"{directory}/{name}" if directory else name
        is_similar = name.startswith((f"{NORDER}=", f"{DIR}=", f"{NPIX}="))
        if match := pattern.fullmatch(name):
            yield int(match[1]), path
        elif is_similar and not _IGNORED_SUFFIX.fullmatch(name):
            shown = info.files.name(path)
            raise MarginCacheError(
                f"{shown if shown.isprintable() else repr(shown)}: may be a partition, but "
                f"partitions of this catalog are named {word}=N{suffix}. Rename it, or move it out "
                "of the catalog."
            )


def _unlisted(name: str, error: OSError) -> MarginCacheError:
    return MarginCacheError(
        f"{name}: cannot look for partitions here ({error.strerror or error}). Give access or "
        "restore it; remove it only if it is no part of the catalog."
    )


def listed_partitions(info: CatalogInfo) -> set[Pixel] | None:
    """Return the partitions in partition_info.csv; None if there is no such file."""
    if not info.files.exists(PARTITION_INFO):
        return None
    name = info.files.name(PARTITION_INFO)
    try:
        lines = info.files.read(PARTITION_INFO).decode("utf-8-sig").splitlines()
        return {Pixel(int(row[NORDER]), int(row[NPIX])) for row in csv.DictReader(lines)}
    except OSError as error:
        raise MarginCacheError(
            f"{name}: cannot be read ({error.strerror or error}). Give access, or remove it."
        ) from None
    except (KeyError, TypeError, ValueError, csv.Error):
        raise MarginCacheError(
            f"{name}: is damaged. It needs whole numbers in the columns {NORDER} and {NPIX}."
        ) from None


def restrict(partitions: Partitions, wanted: tuple[tuple[int, int], ...]) -> Partitions:
    """Return the partitions that overlap a pixel of ``debug_filter_pixel_list``."""
    starts, ends = pixel_ranges(partitions.orders, partitions.pixels)
    chosen = np.zeros(len(starts), dtype=bool)
    for pixel, first, last in zip(wanted, *pixel_ranges(*np.array(wanted).T), strict=True):
        # Partitions are disjoint and in nested order, so starts and ends both ascend.
        overlapping = slice(np.searchsorted(ends, first, "right"), np.searchsorted(starts, last))
        if overlapping.start == overlapping.stop:
            raise MarginCacheError(
                f"debug_filter_pixel_list: the catalog has no partition that overlaps {list(pixel)}"
            )
        chosen[overlapping] = True
    return partitions.take(np.flatnonzero(chosen))


def check_whole(info: CatalogInfo, partitions: Partitions) -> None:
    """Check that local files end as Parquet files do, unlike those of an interrupted copy."""
    if not info.url:
        for _ in _in_threads(partial(_check_ends, info), partitions):
            pass


def _check_ends(info: CatalogInfo, partitions: Partitions) -> None:
    for pixel in as_pixels(partitions.orders, partitions.pixels):
        files = partition_files(info, pixel)
        if not files:
            raise MarginCacheError(f"{info.partition_name(pixel)}: contains no file")
        for path in map(info.files.name, files):
            try:
                size, end = _read_end(path, len(MAGIC))
            except OSError as error:
                raise MarginCacheError(
                    f"{path}: cannot be read: {error.strerror or error}"
                ) from None
            if size <= 2 * len(MAGIC) or end != MAGIC:
                state = "truncated, encrypted or not Parquet" if size else "empty"
                raise MarginCacheError(f"{path}: is {state} ({size} bytes). Copy it again.")


def _read_end(path: str, count: int) -> tuple[int, bytes]:
    """Return the size of a file and its last bytes."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        size = os.fstat(file.fileno()).st_size
        return size, os.pread(file.fileno(), count, max(size - count, 0))


def check_consistency(info: CatalogInfo, partitions: Partitions) -> None:
    """Check that files have as many rows as the catalog states, unless it lists the files."""
    where, stated = format_of(info).stated_rows(info)
    if stated is None or (info.npix_suffix != "/" and info.files.exists(PARTITION_INFO)):
        return
    if not re.fullmatch("[0-9]+", str(stated)):
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: {where} is {stated}, not a number. Correct or "
            "remove it."
        )

    def rows_of(part: Partitions) -> int:
        files = (file for pixel, _ in part for file in partition_files(info, pixel))
        return sum(info.files.open_parquet(file).metadata.num_rows for file in files)

    rows = sum(_in_threads(rows_of, partitions))
    if int(str(stated)) != rows:
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: {where} is {stated}, but its files have {rows} "
            "rows. Copy missing files again, or correct the number."
        )
