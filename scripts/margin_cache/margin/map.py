"""Mapping: from the partitions of a job to one shard with the rows that are in a margin.

A row is there once for each destination whose margin it is in; those of a destination keep the
order of their partitions.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import check_unchanged, coordinates, shard_schema, spatial_index
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import unchanged_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.boundary import is_within
from margin_cache.healpix.margin_filter import find_candidates
from margin_cache.healpix.neighbors import are_inside
from margin_cache.healpix.nested import Ints, pixel_ranges
from margin_cache.margin.paths import PlanFiles
from margin_cache.margin.shard import new_shard, write_rows
from margin_cache.parquet.partition_file import PartitionFile, open_files
from margin_cache.parquet.positions import (
    FilePositions,
    check_coordinates,
    read_positions,
)
from margin_cache.parquet.row_selection import row_batches, select_rows
from margin_cache.planning.model import Plan
from margin_cache.planning.resources import SHARD_BUFFER_BYTES
from margin_cache.storage.files import atomic_path

if TYPE_CHECKING:
    from margin_cache.parquet.remote_reader import RemoteReader

_WINDOW_PAIRS, _WINDOW_FILES, _WINDOW_BYTES = 1 << 14, 64, 256 << 20
"""Pairs of row and destination, and files, that the exact filter takes at once: for few it takes as
long as for many. Of remote files no more bytes than this wait for it on the local disk, or one."""

_AHEAD_BYTES = 64 << 20
"""Rows of remote files are fetched ahead as long as the files have no more bytes than this."""


_MOST_PAIRS = 1 << 21
"""Pairs of one file that are in memory together, about: of a margin that is a small part of its
partition, all. Where there are more, columns of the file are read once for each so many."""


@dataclass(frozen=True)
class MapResult:
    """What a map job did: rows read, and rows written (once a destination)."""

    rows_read: int
    rows_written: int


@dataclass(frozen=True)
class _Candidates:
    """Rows of a file, once for each destination that they may be in the margin of.

    Attributes:
        partition: index of the partition in the plan.
        part: the file.
        rows_read: number of the rows that they were found among.
        rows: indices of the rows in the file, ascending, shape (n,).
        destinations: indices of destinations, shape (n,).
        positions: spatial index and coordinates, n rows.
    """

    partition: int
    part: PartitionFile
    rows_read: int
    rows: NDArray[np.int64]
    destinations: NDArray[np.int64]
    positions: pa.Table


def map_partitions(plan: Plan, job: int, shard: Path, threads: int = 1) -> MapResult:
    """Write the shard of a map job.

    Args:
        plan: the plan.
        job: number of the map job.
        shard: the file to write.
        threads: threads that decode columns.

    Raises:
        MarginCacheError: a partition is damaged, has other columns than the catalog, or has rows
            without coordinates, or with such as contradict the spatial index; or the catalog has
            changed since the margin was planned.
    """
    check_unchanged(plan.parameters.catalog, plan.partitions, plan.schema)
    schema = shard_schema(plan.schema)
    read = written = 0
    waiting: list[pa.Table] = []
    waiting_bytes = 0
    with (
        atomic_path(shard) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        new_shard(sink, schema, shard) as writer,
    ):
        with _unchanged_partitions(plan, job), _reader_of(plan, job, shard) as reader:
            candidates = _candidates_of(plan, job, threads, reader)
            for found in _rows_in_margins(plan, candidates, threads):
                read += found.rows_read
                written += len(found.rows)
                for table in _shard_rows(found, plan.parameters.catalog, schema, threads):
                    waiting.append(table)
                    waiting_bytes += table.nbytes
                    if waiting_bytes > SHARD_BUFFER_BYTES:
                        write_rows(writer, waiting, plan.reduce_bounds)
                        waiting, waiting_bytes = [], 0
        if waiting:
            write_rows(writer, waiting, plan.reduce_bounds)
    return MapResult(read, written)


@contextmanager
def _unchanged_partitions(plan: Plan, job: int) -> Iterator[None]:
    """Check, after a block that reads the partitions of a map job, that none was changed meanwhile.

    What else is wrong with one may come of the change, which is then what is said.

    Raises:
        MarginCacheError: one has another state than when the margin was planned.
    """
    failed: MarginCacheError | None = None
    try:
        yield
    except MarginCacheError as error:
        failed = error
    partitions = plan.partitions
    for partition in range(plan.map_bounds[job], plan.map_bounds[job + 1]):
        unchanged_files(plan.parameters.catalog, partitions[partition])
    if failed:
        raise failed


@contextmanager
def _reader_of(plan: Plan, job: int, shard: Path) -> Iterator["RemoteReader | None"]:
    """Give what fetches the partitions of a map job, if the catalog is remote.

    What has been fetched is private to this process, and deleted at the end.
    """
    if not plan.parameters.catalog.url:
        yield None
        return
    # Slow to import, and of no use for catalogs on disk.
    from margin_cache.margin.remote_input import remote_reader

    with remote_reader(plan, job, PlanFiles(shard.parents[1])) as reader:
        yield reader


def _candidates_of(
    plan: Plan, job: int, threads: int, reader: "RemoteReader | None"
) -> Iterator[_Candidates]:
    """Yield what the coarse filter leaves of the files of a map job."""
    destinations = pixel_ranges(plan.destination_orders, plan.destination_pixels)
    for partition in range(plan.map_bounds[job], plan.map_bounds[job + 1]):
        for part in open_files(
            plan.parameters.catalog, plan.partitions[partition], plan.schema, reader
        ):
            yield from _candidates_in(plan, partition, part, destinations, threads)


def _candidates_in(
    plan: Plan,
    partition: int,
    part: PartitionFile,
    destinations: tuple[Ints, Ints],
    threads: int,
) -> Iterator[_Candidates]:
    """Yield what the coarse filter leaves of a file: at once, unless that is very much."""
    parameters, pixel = plan.parameters, plan.partitions[partition].pixel
    info = parameters.catalog
    start = pairs = 0
    found: list[_Candidates] = []
    for table in read_positions(info, pixel, part, threads):
        near, around = find_candidates(
            spatial_index(info, table),
            parameters.index_shift,
            pixel,
            destinations,
            parameters.margin_order,
        )
        positions = table.take(pa.array(near))
        found.append(_Candidates(partition, part, table.num_rows, near + start, around, positions))
        start += table.num_rows
        pairs += len(near)
        if pairs >= _MOST_PAIRS:
            yield _joined(found)
            found, pairs = [], 0
    if found:
        yield _joined(found)


def _joined(found: list[_Candidates]) -> _Candidates:
    """Join what has been found in batches of a file."""
    if len(found) == 1:
        return found[0]
    positions = pa.concat_tables([each.positions for each in found])
    return replace(
        found[0],
        rows_read=sum(each.rows_read for each in found),
        rows=np.concatenate([each.rows for each in found]),
        destinations=np.concatenate([each.destinations for each in found]),
        positions=positions,
    )


def _rows_in_margins(
    plan: Plan, candidates: Iterator[_Candidates], threads: int
) -> Iterator[_Candidates]:
    """Yield what the exact filter, if there shall be one, leaves of the candidates.

    Raises:
        MarginCacheError: some lie elsewhere than their spatial index says.
    """
    window: list[_Candidates] = []
    pairs = held = 0
    for found in candidates:
        window.append(found)
        pairs += len(found.rows)
        held += found.part.bytes_on_disk
        if pairs >= _WINDOW_PAIRS or len(window) >= _WINDOW_FILES or held >= _WINDOW_BYTES:
            yield from _checked(plan, window, threads)
            window, pairs, held = [], 0, 0
    if window:
        yield from _checked(plan, window, threads)


def _checked(plan: Plan, window: list[_Candidates], threads: int) -> Iterator[_Candidates]:
    """Check where candidates lie, and yield those that are in margins."""
    found = [
        FilePositions(plan.partitions[each.partition].pixel, each.part, each.positions)
        for each in window
    ]
    check_coordinates(plan.parameters.catalog, found)
    if plan.parameters.fine_filtering:
        yield from _within_threshold(plan, window, threads)
    else:
        yield from window


def _within_threshold(plan: Plan, window: list[_Candidates], threads: int) -> Iterator[_Candidates]:
    lon, lat = coordinates(
        plan.parameters.catalog, pa.concat_tables([found.positions for found in window])
    )
    destinations = np.concatenate([found.destinations for found in window])
    orders, pixels = plan.destination_orders[destinations], plan.destination_pixels[destinations]
    within = _are_within(lon, lat, orders, pixels, plan.parameters.threshold, threads)
    # A row whose index says that it is beside a pixel may lie inside, far from the boundary.
    beyond = np.flatnonzero(~within)
    within[beyond] = are_inside(lon[beyond], lat[beyond], orders[beyond], pixels[beyond])
    ends = np.cumsum([len(found.rows) for found in window])
    left = deque(
        replace(
            found,
            rows=found.rows[kept],
            destinations=found.destinations[kept],
            positions=found.positions.filter(pa.array(kept)),
        )
        for found, kept in zip(window, np.split(within, ends[:-1]), strict=True)
    )
    # A file is closed, and what was fetched of it deleted, when nothing has it any more.
    window.clear()
    while left:
        if plan.parameters.catalog.url:
            _want_rows(left)
        yield left.popleft()


def _are_within(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    orders: Ints,
    pixels: Ints,
    threshold: float,
    threads: int,
) -> NDArray[np.bool_]:
    """Tell which pairs of point and pixel are within a threshold, some in each thread."""
    if threads == 1:
        return is_within(lon, lat, orders, pixels, threshold)
    parts = [np.array_split(values, threads) for values in (lon, lat, orders, pixels)]
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(is_within, *parts, repeat(threshold))))


def _want_rows(coming: Iterable[_Candidates]) -> None:
    """Begin to fetch the rows of the remote files that come next."""
    ahead = 0
    for number, found in enumerate(coming):
        ahead += found.part.size
        if number and ahead > _AHEAD_BYTES:
            break
        found.part.prefetch_rows(found.rows)


def _shard_rows(
    found: _Candidates, info: CatalogInfo, schema: pa.Schema, threads: int
) -> Iterator[pa.Table]:
    """Yield the rows that have been found, with all columns, as they are in a shard.

    Raises:
        MarginCacheError: the file is damaged, or has nulls that the catalog's schema rules out.
    """
    columns = pa.schema(list(schema)[2:])
    without_nulls = [field.name for field in columns if not field.nullable]
    source = pa.scalar(found.partition, pa.uint32())
    found.part.fetch_rows(found.rows)
    for batch in row_batches(found.part, len(found.rows)):
        positions = found.positions.slice(batch.start, batch.stop - batch.start)
        wanted = found.rows[batch]
        rows = select_rows(found.part, positions, info.index_column, wanted, columns, threads)
        for name in without_nulls:
            if rows[name].null_count:
                raise MarginCacheError(
                    f"{found.part.path}: the column {name} has nulls, though the catalog's "
                    "_common_metadata, or its first partition if there is none, declares that it "
                    "has none; correct one of them"
                )
        destinations = pa.array(found.destinations[batch], pa.uint32())
        repeated = pa.repeat(source, len(wanted))
        yield pa.Table.from_arrays([destinations, repeated, *rows.columns], schema=schema)
