"""How the work at a margin is cut into jobs, and what these request.

A plan follows from the catalog and the settings, never from the machine, so a run that is resumed
elsewhere finds its files. Jobs cover runs of partitions that are consecutive in nested order, hence
close on the sky.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.model import INDEX_TOLERANCE, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.neighbors import pixels_within
from margin_cache.healpix.nested import (
    Ints,
    finest_margin_order,
    negative_pixels,
    pixel_ranges,
    resolution,
)
from margin_cache.parquet.footers import row_groups
from margin_cache.parquet.partition_file import BATCH_BYTES, BATCH_ROWS
from margin_cache.parquet.row_selection import most_bytes_together
from margin_cache.planning.model import MarginParameters, Plan, job_label

_MB = 10**6

# Auto jobs: a catalog that is too small for the wanted number of full size is cut into that many
# smaller ones, but none is smaller than the least, which works four times as long as it takes to
# start. Where that leaves less than two, two are made unless they would start longer than work.
_JOBS_WANTED = 4
_LEAST_JOB, _LEAST_OF_TWO = 1000 * _MB, 128 * _MB
_MOST_JOBS = 4096  # map jobs, so that Snakemake's own work stays below a minute

_PARTITION = _MB // 4  # weight of opening a file: reading so much takes as long

# Up to so many, all jobs have about the same size. Their number is one, two, or a multiple of a
# number of processors, so that few processors share them evenly.
_EVEN_JOBS, _PROCESSORS = 32, 4

_REDUCE_FACTOR = 32  # Parquet of a reduce job, as a multiple of that of a map job
_LEAST_PIXELS, _REDUCE_PIXELS = 96, 1024  # bounds of a reduce job's destinations


def make_plan(
    parameters: MarginParameters,
    schema: pa.Schema,
    partitions: Partitions,
    library: str,
    is_alone: bool = True,
) -> Plan:
    """Plan a margin, which is the only one of its run or not."""
    count = len(partitions)
    negative_orders, negative = negative_pixels(partitions.orders, partitions.pixels)
    orders = np.concatenate([partitions.orders, negative_orders])
    pixels = np.concatenate([partitions.pixels, negative])
    destination_partitions = np.concatenate([np.arange(count), np.full(len(negative), -1)])
    nested = np.argsort(pixel_ranges(orders, pixels)[0])
    orders, pixels = orders[nested], pixels[nested]
    destination_partitions = destination_partitions[nested]

    map_bounds, reduce_bounds = _group(
        parameters, partitions.sizes, destination_partitions, is_alone
    )
    radius, finest = math.inf, parameters.margin_order
    if parameters.fine_filtering:
        radius = parameters.threshold + INDEX_TOLERANCE
        finest = finest_margin_order(radius)
    own = partitions.orders, partitions.pixels
    sources, destinations = pixels_within(own, (orders, pixels), radius, finest)
    other = destination_partitions[destinations] != sources
    map_jobs = np.searchsorted(map_bounds, sources[other], side="right") - 1
    reduce_jobs = np.searchsorted(reduce_bounds, destinations[other], side="right") - 1
    edges = np.unique(reduce_jobs * (len(map_bounds) - 1) + map_jobs)
    reducing, needs = np.divmod(edges, len(map_bounds) - 1)
    need_bounds = np.searchsorted(reducing, np.arange(len(reduce_bounds)))
    return Plan(
        library=library,
        parameters=parameters,
        schema=schema,
        partitions=partitions,
        destination_orders=orders,
        destination_pixels=pixels,
        destination_partitions=destination_partitions,
        map_bounds=map_bounds,
        reduce_bounds=reduce_bounds,
        need_bounds=need_bounds,
        needs=needs,
    )


def audit_bounds(plan: Plan, fraction: float) -> Ints:
    """Return the bounds of the jobs of an audit, like ``map_bounds``.

    Jobs cover the partitions of one map job each, or of several if they check a sample of them.
    """
    firsts = plan.map_bounds[:-1][:: max(1, round(1 / fraction))]
    return np.append(firsts, len(plan.partitions))


def audit_jobs(plan: Plan, fraction: float) -> tuple[list[str], list[int]]:
    """Return the names of the jobs of an audit, and the first nested index (order 29) of each."""
    partitions, names = plan.partitions, []
    bounds = audit_bounds(plan, fraction)
    for job, (start, stop) in enumerate(pairwise(bounds)):
        label = job_label(partitions.orders[start:stop], partitions.pixels[start:stop])
        state = plan.map_names[int(np.searchsorted(plan.map_bounds, start))].rpartition("-")[2]
        names.append(f"{job:05d}-{label}-{state}")
    firsts = bounds[:-1]
    starts = pixel_ranges(partitions.orders[firsts], partitions.pixels[firsts])[0]
    return names, starts.tolist()


def _group(
    parameters: MarginParameters, sizes: Ints, destination_partitions: Ints, is_alone: bool
) -> tuple[Ints, Ints]:
    if parameters.partitions_per_job != "auto":
        per_job = int(parameters.partitions_per_job)
        partitions, destinations = len(sizes), len(destination_partitions)
        return (
            np.append(np.arange(0, partitions, per_job), partitions),
            np.append(np.arange(0, destinations, per_job), destinations),
        )
    sizes = sizes + _PARTITION
    total = int(sizes.sum())
    limit = min(
        parameters.job_size_mb * _MB,
        max(_LEAST_JOB, total / _JOBS_WANTED),
        max(_LEAST_OF_TWO, total / 2),
    )
    # In steps, so that a partition of another size does not change it.
    while len(map_bounds := _bounds(sizes, limit)) > _MOST_JOBS + 1:
        limit *= 2
    reduced = _REDUCE_FACTOR * limit
    # Two processors share the work at a margin that is alone; of several, each takes others.
    pixels = len(destination_partitions) / (2 if is_alone else 1)
    pixels = min(_REDUCE_PIXELS, max(_LEAST_PIXELS, pixels))
    weights = np.where(destination_partitions < 0, 0, sizes[destination_partitions])
    return map_bounds, _bounds(np.maximum(weights, reduced / pixels), reduced)


def _bounds(weights: NDArray[np.number], weight: float) -> Ints:
    """Cut a sequence into runs of about the same weight.

    If the runs are few, their weights are nearly equal, so that no processor waits for another. If
    they are many, each is filled before the next begins: a changed weight then moves only the next
    few cuts, and the files of all other jobs stay valid.
    """
    sums = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    count = max(1, round(sums[-1] / weight))
    middles = (sums[:-1] + sums[1:]) / 2
    if count <= _EVEN_JOBS:
        if count > 2:
            count = _PROCESSORS * round(count / _PROCESSORS)
        cuts = np.searchsorted(middles, sums[-1] / count * np.arange(1, count))
        return np.union1d(cuts, [0, len(weights)])
    bounds = [0]
    while bounds[-1] < len(weights):
        stop = int(np.searchsorted(middles, sums[bounds[-1]] + weight))
        bounds.append(max(stop, bounds[-1] + 1))
    return np.array(bounds)


# --- what jobs request ---------------------------------------------------------------------------
#
# The formulas lie somewhat above the measurements in docs/resources.md, which are made by
# benchmarks/measure_resources.py. A job that needs more gets more at its next attempt.

# Memory of every job. On a cluster, a job is the script and the two Snakemakes that start it, with
# their shells and sruns; the script is Python with NumPy and PyArrow.
_SNAKEMAKE_MB = 400
_SCRIPT_MB = 100

# Memory in addition: Polars with its threads; the drivers of buckets with the parts on their way.
_POLARS_MB = 60
_FETCHING_MB = 240
_SENDING_MB = 240
_SENT_TOGETHER = 8  # files, each of which is in memory while it is sent

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

    def then(self, other: "Request") -> "Request":
        """Return the resources of a job that does one thing after another."""
        return Request(
            max(self.mem_mb, other.mem_mb),
            max(self.disk_mb, other.disk_mb),
            self.runtime + other.runtime,
        )


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
        written = plan.partitions.sizes * margin_shares(plan, plan.partitions.orders) / _MB
        memory += _SENDING_MB + _SENT_TOGETHER * float(written.max())
        minutes += float(written.sum()) / _FETCHED_MB_PER_MINUTE
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
