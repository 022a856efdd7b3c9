"""Memory, disk and time that a job asks for, from the sizes of the files that it reads and writes.

The formulas lie somewhat above the measurements in docs/resources.md, which are made by
benchmarks/measure_resources.py. A job that needs more gets more at its next attempt.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import resolution
from margin_cache.parquet.footers import row_groups
from margin_cache.parquet.partition_file import BATCH_BYTES, BATCH_ROWS
from margin_cache.parquet.row_selection import most_bytes_together
from margin_cache.planning.model import Plan

_MB = 10**6

# Memory of every job. On a cluster, a job is the script and the two Snakemakes that start it, with
# their shells and sruns; the script is Python with NumPy and PyArrow.
_SNAKEMAKE_MB = 400
_SCRIPT_MB = 100

# Memory in addition: Polars with its threads; the drivers of buckets with the parts on their way.
_POLARS_MB = 60
_FETCHING_MB = 240
_SENDING_MB = 240

_FETCHED_MB = 600  # on the local disk, of remote files ahead of the work or waiting for the filter
_INDEX_BYTES = 8  # of a value of the spatial index
_PAGE_MB = 1  # largest part of a column that Parquet writers put into one page
SHARD_BUFFER_BYTES = 64 * _MB  # of rows that a map job gathers before it writes them to its shard
_LEAST_MINUTES = 10

# Rates of one job: a busy shared file system (a local disk is ten times as fast); a bucket that
# serves many jobs; distances of the rows of a margin (a processor is five times as fast); files of
# a margin that are made and flushed.
_READ_MB_PER_MINUTE = 20 * 60
_FETCHED_MB_PER_MINUTE = 5 * 60
_WRITE_MB_PER_MINUTE = 2 * 60
_FILES_PER_MINUTE = 5 * 60

# The finishing job: memory for each file of the margin; the footers of one reduce job as a share of
# all, several times; the process in which hats makes optional files, and minutes for all of them.
_FILE_MB = 0.003
_REDUCE_SHARE = 0.05
_HATS_MB, _HATS_MINUTES = 270, 1

# A job of an audit: libraries and rows that it keeps; each row of a partition; reading.
_AUDIT_MB, _AUDIT_ROW_BYTES, _AUDIT_MB_PER_MINUTE = 900, 200, 5 * 60

# The last job of an audit: memory and minutes for each MB of faulty rows.
_FOUND_FACTOR, _FOUND_MINUTES = 30, 0.1


@dataclass(frozen=True)
class Request:
    """Resources of a job, with the names and units that Snakemake has for them: MB and minutes."""

    mem_mb: int
    disk_mb: int
    runtime: int

    def at(self, attempt: int) -> "Request":
        return Request(self.mem_mb * attempt, self.disk_mb, self.runtime * attempt)


@dataclass(frozen=True)
class RowGroupSize:
    """The largest row group of a catalog; columns inside nested ones are counted each.

    ``read_mb`` is the size in the file of the columns that are read at once, and ``expansion`` the
    size without compression as a multiple of that in the file.
    """

    columns: int
    rows: int
    size_mb: float
    read_mb: float
    expansion: float


def largest_row_group(plan: Plan) -> RowGroupSize:
    """Return the row group of the largest partition that is largest without compression."""
    partitions = plan.partitions
    largest = int(np.argmax(partitions.sizes))
    try:
        info = plan.parameters.catalog
        paths = partition_files(info, partitions[largest].pixel)
        path = max(paths, key=lambda path: info.files.state(path).size)
        footer = info.files.open_parquet(path).metadata
        group = max(row_groups(footer), key=lambda group: group.total_byte_size)
    except (MarginCacheError, OSError, ValueError):
        # The job that reads it reports the problem.
        size_mb = int(partitions.sizes[largest]) / _MB
        return RowGroupSize(100, BATCH_ROWS, size_mb, size_mb, 2.0)
    chunks = map(group.column, range(group.num_columns))
    stored = {chunk.path_in_schema: chunk.total_compressed_size for chunk in chunks}
    size = sum(stored.values())
    index = stored.get(plan.parameters.catalog.index_column or "", 0)
    together = index + max(most_bytes_together(index), *stored.values(), 0)
    return RowGroupSize(
        footer.num_columns,
        group.num_rows,
        size / _MB,
        min(size, together) / _MB,
        max(1.0, group.total_byte_size / max(size, 1)),
    )


def map_request(plan: Plan, job: int, group: RowGroupSize) -> Request:
    part = plan.map_slice(job)
    sizes = plan.partitions.sizes[part] / _MB
    shares = margin_shares(plan, plan.partitions.orders[part])
    written = float((sizes * shares).sum()) * group.expansion
    stored = min(float(sizes.max()), group.size_mb)
    decoded = stored * group.expansion
    read = min(float(sizes.max()), group.read_mb)
    batch = min(
        read * group.expansion * min(1.0, BATCH_ROWS / max(group.rows, 1)), BATCH_BYTES / _MB
    )
    selected = decoded * float(shares.max())
    memory = (
        _POLARS_MB
        + _INDEX_BYTES * group.rows / _MB
        + read  # some columns of a row group, as they are stored
        + 5 * min(read, _PAGE_MB * group.columns)  # some pages of each of them
        + 3 * batch
        + 3 * selected  # all columns of the rows that are in margins
        + 3 * min(written, SHARD_BUFFER_BYTES / _MB)
    )
    minutes = float(sizes.sum()) / _READ_MB_PER_MINUTE + written / _WRITE_MB_PER_MINUTE
    disk = written
    if plan.parameters.catalog.url:
        memory += _FETCHING_MB
        minutes += float(sizes.sum()) / _FETCHED_MB_PER_MINUTE
        # All that a job reads, unless that is much: parts that were filtered are deleted.
        disk += min(float(sizes.sum()), _FETCHED_MB + 2 * float(sizes.max()))
    return _request(memory, disk, minutes)


def margin_shares(plan: Plan, orders: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the rows in margins, once for each margin, as shares of all rows, by order.

    This assumes rows spread evenly over square pixels, whose neighbours have the same size.
    """
    parameters = plan.parameters
    width = (
        parameters.threshold if parameters.fine_filtering else resolution(parameters.margin_order)
    )
    ratios = width / (resolution(0) / np.exp2(orders))
    return 4 * ratios + math.pi * ratios**2


def reduce_request(plan: Plan, job: int, shard_bytes: int) -> Request:
    part = plan.reduce_slice(job)
    own_partitions = plan.destination_partitions[part]
    sizes = plan.partitions.sizes
    own = np.where(own_partitions < 0, sizes.mean(), sizes[own_partitions])
    selected = float((own * margin_shares(plan, plan.destination_orders[part])).sum())
    written = sum(
        float((sizes[behind] * margin_shares(plan, plan.partitions.orders[behind])).sum())
        for need in plan.needs_of(job)
        for behind in [plan.map_slice(need)]
    )
    # The shards are mapped into memory. The job touches twice the share of them that its own
    # destinations have in the margins of the partitions behind them.
    read = shard_bytes / _MB * min(1.0, 2 * selected / max(written, 1e-9))
    minutes = read / _WRITE_MB_PER_MINUTE + len(own) / _FILES_PER_MINUTE
    return _request(1.5 * read, read, minutes)


def finish_request(plan: Plan, group: RowGroupSize, is_sent: bool = False) -> Request:
    # It holds the receipts of all files, and the footers that one reduce job has kept.
    files = len(plan.destination_orders)
    footers = files * group.columns / 1000
    memory = files * _FILE_MB + footers * _REDUCE_SHARE
    minutes = files / _FILES_PER_MINUTE
    if is_sent:
        memory += _SENDING_MB
        sizes = plan.partitions.sizes
        written = float((sizes * margin_shares(plan, plan.partitions.orders)).sum()) / _MB
        minutes += written / _FETCHED_MB_PER_MINUTE
    if plan.parameters.optional_files:
        # hats reads the footers of all files, decoded.
        memory, minutes = memory + _HATS_MB + footers, minutes + _HATS_MINUTES
    return _request(memory, footers, minutes)


def audit_pixels_request(plan: Plan, group: RowGroupSize, jobs: int) -> Request:
    # It holds rows of the partitions that were read last, spatial index and coordinates of another
    # one, and all columns of a row group.
    sizes = plan.partitions.sizes / _MB
    rows = group.rows * max(1.0, float(sizes.max()) / max(group.size_mb, 1e-9))
    positions = _AUDIT_ROW_BYTES * rows / _MB
    memory = _AUDIT_MB + positions + 3 * group.size_mb * group.expansion
    return _request(memory, 1, float(sizes.sum()) / jobs / _AUDIT_MB_PER_MINUTE)


def audit_request(found_bytes: int) -> Request:
    """Return the request of the last job of audits, which reads files of a size from the others."""
    found = found_bytes / _MB
    return _request(_AUDIT_MB + _FOUND_FACTOR * found, found, _FOUND_MINUTES * found)


def _request(memory: float, disk: float, minutes: float) -> Request:
    return Request(
        mem_mb=_SNAKEMAKE_MB + _SCRIPT_MB + math.ceil(memory),
        disk_mb=1 + math.ceil(disk),
        runtime=_LEAST_MINUTES + math.ceil(minutes),
    )
