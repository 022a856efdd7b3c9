"""What a job asks for: memory, disk and time, from the sizes of what it reads and writes.

The formulas lie somewhat above what docs/resources.md shows, which benchmarks/measure_resources.py
measures. They are estimates: a job that needs more gets more at its next attempt.
"""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import resolution
from margin_cache.parquet.polars_rows import most_bytes_together
from margin_cache.parquet.positions import BATCH_ROWS
from margin_cache.planning.model import Plan
from margin_cache.storage.parquet_files import open_parquet

_MB = 10**6

_SNAKEMAKE_MB = 400
"""A job on a cluster is the script and the two Snakemakes that start it, with their shells and
sruns."""

_SCRIPT_MB = 100
"""Python with NumPy and PyArrow, before they do anything."""

_POLARS_MB = 60
"""What Polars takes more, with its threads."""

_FETCHING_MB = 240
"""What the driver of a remote catalog takes more, with the parts that are on their way."""

_FETCHED_MB = 600
"""What is on the local disk of remote files that are ahead of the work, or wait for the filter."""

_FETCHED_MB_PER_MINUTE = 5 * 60
"""A remote store, by one job of many."""

_SENDING_MB = 240
"""What the driver of the store of a margin takes more, with the files that are on their way."""

_INDEX_BYTES = 8
"""Bytes of a value of the spatial index."""

_PAGE_MB = 1
"""Most of a column that Parquet writers put into one page."""

SHARD_BUFFER_BYTES = 64 * _MB
"""Rows that a map job gathers in memory before it writes them to its shard."""

_LEAST_MINUTES = 10

_READ_MB_PER_MINUTE = 20 * 60
"""A busy shared file system; from a local disk it is ten times as much."""

_WRITE_MB_PER_MINUTE = 2 * 60
"""Rows of a margin for which distances are computed; a processor alone does five times as much."""

_FILES_PER_MINUTE = 5 * 60
"""Files that a reduce job makes and flushes."""

_FILE_MB = 0.003
"""What the finishing job holds of each file of the margin."""

_HATS_MB, _HATS_MINUTES = 270, 1
"""Memory of the process in which hats makes a further file, measured; minutes for all of them."""

_AUDIT_MB, _AUDIT_ROW_BYTES, _AUDIT_MB_PER_MINUTE = 900, 200, 5 * 60
"""Of a job of an audit: the libraries, and the rows that it keeps; what it takes more for each row
of a partition; what it reads of the catalog."""

_FOUND_FACTOR, _FOUND_MINUTES = 30, 0.1
"""What each MB of faulty rows takes in memory, and minutes to write it again."""

_REDUCE_SHARE = 0.05
"""Of the footers of all files, what one reduce job has, several times."""


@dataclass(frozen=True)
class Request:
    """What a job asks for, with the names that Snakemake has for it.

    Attributes:
        mem_mb: memory in MB.
        disk_mb: what it writes, in MB.
        runtime: time in minutes.
    """

    mem_mb: int
    disk_mb: int
    runtime: int

    def at(self, attempt: int) -> "Request":
        """Return the request of the first, second, ... attempt."""
        return Request(self.mem_mb * attempt, self.disk_mb, self.runtime * attempt)


@dataclass(frozen=True)
class RowGroupSize:
    """The largest row group of a catalog.

    Attributes:
        columns: number of its columns, those inside nested ones counted each.
        rows: number of its rows.
        size_mb: what it takes in its file.
        read_mb: what those of its columns take there that are read at once.
        expansion: how many times that it takes when it is not compressed.
    """

    columns: int
    rows: int
    size_mb: float
    read_mb: float
    expansion: float


def largest_row_group(plan: Plan) -> RowGroupSize:
    """Return the largest row group of the largest partition, from its footer."""
    partitions = plan.partitions
    largest = int(np.argmax(partitions.sizes))
    try:
        files = partition_files(plan.parameters.catalog, partitions[largest].pixel)
        footer = open_parquet(max(files, key=lambda file: file.stat().st_size)).metadata
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        size, group = max(((_stored(group), group) for group in groups), key=lambda sized: sized[0])
    except (MarginCacheError, OSError, ValueError):
        # The job that reads it says what is wrong with it.
        size_mb = int(partitions.sizes[largest]) / _MB
        return RowGroupSize(100, BATCH_ROWS, size_mb, size_mb, 2.0)
    stored = {each.path_in_schema: each.total_compressed_size for each in _chunks(group)}
    index = stored.get(plan.parameters.catalog.index_column or "", 0)
    together = index + max(most_bytes_together(index), *stored.values(), 0)
    return RowGroupSize(
        footer.num_columns,
        group.num_rows,
        size / _MB,
        min(size, together) / _MB,
        max(1.0, group.total_byte_size / max(size, 1)),
    )


def _chunks(group: pq.RowGroupMetaData) -> list[pq.ColumnChunkMetaData]:
    return [group.column(number) for number in range(group.num_columns)]


def _stored(group: pq.RowGroupMetaData) -> int:
    """Return the bytes that a row group takes in its file."""
    return sum(chunk.total_compressed_size for chunk in _chunks(group))


def map_request(plan: Plan, job: int, group: RowGroupSize) -> Request:
    """Return what a map job asks for.

    Of a row group it holds the spatial index, some columns as they are stored, some pages of each
    of them, and a batch of rows; of the rows that are in margins, all columns.

    Args:
        plan: the plan.
        job: number of the map job.
        group: the largest row group of the catalog.
    """
    part = slice(plan.map_bounds[job], plan.map_bounds[job + 1])
    sizes = plan.partitions.sizes[part] / _MB
    shares = margin_shares(plan, plan.partitions.orders[part])
    written = float((sizes * shares).sum()) * group.expansion
    stored = min(float(sizes.max()), group.size_mb)
    decoded = stored * group.expansion
    read = min(float(sizes.max()), group.read_mb)
    batch = read * group.expansion * min(1.0, BATCH_ROWS / max(group.rows, 1))
    taken = decoded * float(shares.max())
    memory = (
        _POLARS_MB
        + _INDEX_BYTES * group.rows / _MB
        + read
        + 5 * min(read, _PAGE_MB * group.columns)
        + 3 * batch
        + 3 * taken
        + 3 * min(written, SHARD_BUFFER_BYTES / _MB)
    )
    minutes = float(sizes.sum()) / _READ_MB_PER_MINUTE + written / _WRITE_MB_PER_MINUTE
    disk = written
    if plan.parameters.catalog.url:
        memory += _FETCHING_MB
        minutes += float(sizes.sum()) / _FETCHED_MB_PER_MINUTE
        # All that a job reads, unless that is much: what was filtered has gone by then.
        disk += min(float(sizes.sum()), _FETCHED_MB + 2 * float(sizes.max()))
    return _request(memory, disk, minutes)


def margin_shares(plan: Plan, orders: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the rows in margins of partitions, as shares of all, for partitions of some orders.

    A row counts once for each margin. As if rows were even over square pixels, and their
    neighbours of their size.
    """
    parameters = plan.parameters
    reach = (
        parameters.threshold if parameters.fine_filtering else resolution(parameters.margin_order)
    )
    ratios = reach / (resolution(0) / np.exp2(orders))
    return 4 * ratios + math.pi * ratios**2


def reduce_request(plan: Plan, job: int, shard_bytes: int, is_sent: bool = False) -> Request:
    """Return what a reduce job asks for.

    It maps the shards into memory, and touches what it takes of them: as much of what is in the
    margins of the partitions behind them as its own destinations have, and again as much.

    Args:
        plan: the plan.
        job: number of the reduce job.
        shard_bytes: size of the shards that it needs.
        is_sent: whether its files are written to a URL.
    """
    part = slice(plan.reduce_bounds[job], plan.reduce_bounds[job + 1])
    own_partitions = plan.destination_partitions[part]
    sizes = plan.partitions.sizes
    own = np.where(own_partitions < 0, sizes.mean(), sizes[own_partitions])
    taken = float((own * margin_shares(plan, plan.destination_orders[part])).sum())
    written = sum(
        float((sizes[behind] * margin_shares(plan, plan.partitions.orders[behind])).sum())
        for need in plan.needs_of(job)
        for behind in [slice(plan.map_bounds[need], plan.map_bounds[need + 1])]
    )
    read = shard_bytes / _MB * min(1.0, 2 * taken / max(written, 1e-9))
    minutes = read / _WRITE_MB_PER_MINUTE + len(own) / _FILES_PER_MINUTE
    memory = 1.5 * read
    if is_sent:
        memory += _SENDING_MB
        minutes += read / _FETCHED_MB_PER_MINUTE
    return _request(memory, read, minutes)


def finish_request(plan: Plan, group: RowGroupSize, is_sent: bool = False) -> Request:
    """Return what the job asks for that finishes a margin.

    It holds what the receipts say of all files, and the footers that one reduce job has kept.

    Args:
        plan: the plan.
        group: the largest row group of the catalog.
        is_sent: whether the margin is written to a URL.
    """
    files = len(plan.destination_orders)
    footers = files * group.columns / 1000
    memory = files * _FILE_MB + footers * _REDUCE_SHARE
    minutes = files / _FILES_PER_MINUTE
    if is_sent:
        memory += _SENDING_MB
    if plan.parameters.optional_files:
        # It reads the footers of all files, decoded.
        memory, minutes = memory + _HATS_MB + footers, minutes + _HATS_MINUTES
    return _request(memory, footers, minutes)


def audit_pixels_request(plan: Plan, group: RowGroupSize, jobs: int) -> Request:
    """Return what a job of an audit asks for.

    It holds rows of partitions that were read last, spatial index and coordinates of another one,
    and all columns of a row group.

    Args:
        plan: the plan of a margin of the catalog.
        group: the largest row group of the catalog.
        jobs: how many such jobs there are.
    """
    sizes = plan.partitions.sizes / _MB
    rows = group.rows * max(1.0, float(sizes.max()) / max(group.size_mb, 1e-9))
    positions = _AUDIT_ROW_BYTES * rows / _MB
    memory = _AUDIT_MB + positions + 3 * group.size_mb * group.expansion
    return _request(memory, 1, float(sizes.sum()) / jobs / _AUDIT_MB_PER_MINUTE)


def audit_request(found_bytes: int) -> Request:
    """Return what the job asks for that puts together what the jobs of audits have found.

    Args:
        found_bytes: size of their files.
    """
    found = found_bytes / _MB
    return _request(_AUDIT_MB + _FOUND_FACTOR * found, found, _FOUND_MINUTES * found)


def _request(memory: float, disk: float, minutes: float) -> Request:
    return Request(
        mem_mb=_SNAKEMAKE_MB + _SCRIPT_MB + math.ceil(memory),
        disk_mb=1 + math.ceil(disk),
        runtime=_LEAST_MINUTES + math.ceil(minutes),
    )
