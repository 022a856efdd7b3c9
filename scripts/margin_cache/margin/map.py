"""Mapping: from the partitions of a job to one shard with the rows that are in a margin.

A row is in the shard once for each destination whose margin it is in. Rows of a destination keep
the order of their partitions.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import coordinates, shard_schema, spatial_index
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import unchanged_files
from margin_cache.healpix.neighbors import are_in_margins, find_candidates
from margin_cache.healpix.nested import Ints, pixel_ranges
from margin_cache.margin.paths import PlanFiles
from margin_cache.margin.shard import Block, write_index, write_rows
from margin_cache.parquet.partition_file import (
    FilePositions,
    PartitionFile,
    check_coordinates,
    open_files,
    read_positions,
)
from margin_cache.parquet.row_selection import row_batches, select_rows
from margin_cache.planning.jobs import SHARD_BUFFER_BYTES
from margin_cache.planning.model import Plan
from margin_cache.storage.files import atomic_path, unique_id

if TYPE_CHECKING:
    from margin_cache.parquet.remote_reader import RemoteReader

_WINDOW_PAIRS, _WINDOW_FILES, _WINDOW_BYTES = 1 << 14, 64, 256 << 20
"""Pairs of row and destination, and files, that the exact filter takes at once: few take as long as
many. Remote files that wait for it on the local disk have at most this many bytes, or are one."""

_PREFETCH_BYTES = 64 << 20
"""Rows of the next remote files are prefetched up to this size of the files."""

_MOST_PAIRS = 1 << 21
"""Approximate number of pairs of one file that are in memory together. If a file has more, columns
of it are read several times."""


@dataclass(frozen=True)
class _Candidates(FilePositions):
    """Rows of a file, ascending, once for each destination whose margin they may be in.

    Attributes:
        destinations: indices of destinations, shape (n,).
        partition: index of the partition in the plan.
        rows_read: number of rows of the file that were searched.
    """

    destinations: NDArray[np.int64]
    partition: int
    rows_read: int


def map_partitions(plan: Plan, job: int, shard: Path) -> tuple[int, int]:
    """Write the shard of a map job.

    Return the numbers of rows that were read, and written: once a destination.
    """
    info, schema = plan.parameters.catalog, shard_schema(plan.schema)
    read = written = buffered_bytes = 0
    buffered: list[pa.Table] = []
    blocks: list[Block] = []
    with atomic_path(shard) as temporary, temporary.open("wb") as file:
        try:
            with _reader_of(plan, job, PlanFiles(shard.parents[1])) as reader:
                candidates = _candidates_of(plan, job, reader)
                for selected in _prefetched(_rows_in_margins(plan, candidates)):
                    read += selected.rows_read
                    written += len(selected.rows)
                    for table in _shard_rows(selected, info, schema):
                        buffered.append(table)
                        buffered_bytes += table.nbytes
                        if buffered_bytes > SHARD_BUFFER_BYTES:
                            blocks += write_rows(file, buffered, plan.reduce_bounds)
                            buffered, buffered_bytes = [], 0
        finally:
            # A change meanwhile is reported instead of other errors, since it can be their cause.
            for partition in plan.partitions.take(plan.map_slice(job)):
                unchanged_files(info, partition)
        if buffered:
            blocks += write_rows(file, buffered, plan.reduce_bounds)
        write_index(file, shard, blocks)
    return read, written


@contextmanager
def _reader_of(plan: Plan, job: int, files: PlanFiles) -> Iterator["RemoteReader | None"]:
    """Yield the reader of a remote catalog, whose downloads are deleted at the end; else None."""
    info = plan.parameters.catalog
    if not info.url:
        yield None
        return
    # Slow to import, and of no use for catalogs on disk.
    from margin_cache.margin.remote import use_catalog
    from margin_cache.parquet.remote_reader import RemoteReader

    catalog = use_catalog(info.url, files)
    directory = files.downloads_dir / f"{job:05d}-{unique_id()}"
    columns = {info.ra_column, info.dec_column, info.index_column or info.ra_column}
    reader = RemoteReader(catalog, plan.files_of(job), columns, directory)
    try:
        yield reader
    finally:
        reader.close()


def _candidates_of(plan: Plan, job: int, reader: "RemoteReader | None") -> Iterator[_Candidates]:
    """Yield the rows of a map job's files that pass the coarse filter."""
    info = plan.parameters.catalog
    destinations = pixel_ranges(plan.destination_orders, plan.destination_pixels)
    for partition in range(plan.map_bounds[job], plan.map_bounds[job + 1]):
        for file in open_files(info, plan.partitions[partition], plan.schema, reader):
            yield from _candidates_in(plan, partition, file, destinations)


def _candidates_in(
    plan: Plan, partition: int, file: PartitionFile, destinations: tuple[Ints, Ints]
) -> Iterator[_Candidates]:
    """Yield the rows of a file that pass the coarse filter, in batches if they are very many."""
    parameters, pixel = plan.parameters, plan.partitions[partition].pixel
    info = parameters.catalog
    shift = parameters.cell_shift
    start = pairs = 0
    batches: list[_Candidates] = []
    for table in read_positions(info, pixel, file):
        index = spatial_index(info, table)
        near, around = find_candidates(index, shift, pixel, destinations, parameters.margin_order)
        positions = table.take(pa.array(near))
        batches.append(
            _Candidates(pixel, file, near + start, positions, around, partition, table.num_rows)
        )
        start += table.num_rows
        pairs += len(near)
        if pairs >= _MOST_PAIRS:
            yield _joined(batches)
            batches, pairs = [], 0
    if batches:
        yield _joined(batches)


def _joined(batches: list[_Candidates]) -> _Candidates:
    return replace(
        batches[0],
        rows_read=sum(batch.rows_read for batch in batches),
        rows=np.concatenate([batch.rows for batch in batches]),
        destinations=np.concatenate([batch.destinations for batch in batches]),
        positions=pa.concat_tables([batch.positions for batch in batches]),
    )


def _rows_in_margins(plan: Plan, candidates: Iterator[_Candidates]) -> Iterator[_Candidates]:
    """Yield the candidates that pass the exact filter, or all without ``fine_filtering``."""
    window: list[_Candidates] = []
    pairs = on_disk = 0
    for batch in candidates:
        window.append(batch)
        pairs += len(batch.rows)
        on_disk += batch.file.bytes_on_disk
        if pairs >= _WINDOW_PAIRS or len(window) >= _WINDOW_FILES or on_disk >= _WINDOW_BYTES:
            yield from _checked(plan, window)
            window, pairs, on_disk = [], 0, 0
    if window:
        yield from _checked(plan, window)


def _checked(plan: Plan, window: list[_Candidates]) -> Iterator[_Candidates]:
    """Check the coordinates of candidates, and yield those that are in margins."""
    info = plan.parameters.catalog
    check_coordinates(info, window)
    if not plan.parameters.fine_filtering:
        yield from window
        return
    lon, lat = coordinates(info, pa.concat_tables([batch.positions for batch in window]))
    destinations = np.concatenate([batch.destinations for batch in window])
    orders, pixels = plan.destination_orders[destinations], plan.destination_pixels[destinations]
    within = are_in_margins(lon, lat, orders, pixels, plan.parameters.threshold)
    ends = np.cumsum([len(batch.rows) for batch in window])
    # A file is closed, and its downloads are deleted, when nothing refers to it any more.
    batches = deque(zip(window, np.split(within, ends[:-1]), strict=True))
    window.clear()
    while batches:
        batch, kept = batches.popleft()
        yield replace(
            batch,
            rows=batch.rows[kept],
            destinations=batch.destinations[kept],
            positions=batch.positions.filter(pa.array(kept)),
        )


def _prefetched(selected: Iterator[_Candidates]) -> Iterator[_Candidates]:
    """Yield what is selected; the rows of the next remote files are being fetched meanwhile."""
    coming: deque[_Candidates] = deque()
    size = 0
    for batch in selected:
        if batch.file.remote:
            batch.file.remote.fetch_rows(batch.rows)
        coming.append(batch)
        size += batch.file.remote.size if batch.file.remote else 0
        while coming and (size > _PREFETCH_BYTES or not batch.file.remote):
            first = coming.popleft()
            size -= first.file.remote.size if first.file.remote else 0
            yield first
    yield from coming


def _shard_rows(selected: _Candidates, info: CatalogInfo, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield selected rows with all columns of a shard."""
    columns = pa.schema(list(schema)[2:])
    source = pa.scalar(selected.partition, pa.uint32())
    if selected.file.remote:
        selected.file.remote.wait()
    for batch in row_batches(selected.file, len(selected.rows)):
        positions = selected.positions.slice(batch.start, batch.stop - batch.start)
        numbers = selected.rows[batch]
        rows = select_rows(selected.file, positions, info.index_column, numbers, columns)
        destinations = pa.array(selected.destinations[batch], pa.uint32())
        sources = pa.repeat(source, len(numbers))
        yield pa.Table.from_arrays([destinations, sources, *rows.columns], schema=schema)
