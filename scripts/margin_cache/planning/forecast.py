"""Forecast of a margin before any of its jobs has run: rows, bytes, memory, disk space.

Estimates from the sizes of the partitions and some of their footers, as if rows were spread evenly
over each partition.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints
from margin_cache.parquet.footers import column_sizes
from margin_cache.planning.model import Plan
from margin_cache.planning.resources import (
    RowGroupSize,
    map_request,
    margin_shares,
    reduce_request,
)

_FOOTERS = 16
"""Partitions whose footers are read."""

_COLUMN_BYTES = 100
"""Bytes of a column of a small file besides its values and its footer: headers, dictionaries."""

_ROW_BYTES, _COLUMNS = 100.0, 20
"""Guess for catalogs whose footers cannot be read; the jobs report the problem."""


@dataclass(frozen=True)
class FileSizes:
    """Averages of the files of a catalog.

    Bytes of a row in its file and without compression, bytes of a footer, number of columns.
    """

    row: float
    memory: float
    footer: float
    columns: int


@dataclass(frozen=True)
class Forecast:
    """The forecast of a margin, in bytes unless noted.

    ``rows`` and ``size`` are of the whole margin; jobs, and what is read, written to the ``output``
    and ``intermediate`` directories, and memory, are of the jobs that are not done.
    """

    partitions: int
    destinations: int
    negative_pixels: int
    map_jobs: int
    reduce_jobs: int
    read: int
    rows: int
    size: int
    output: int
    intermediate: int
    memory_mb: int


def file_sizes(plan: Plan) -> FileSizes:
    """Return averages of a catalog's files, from the footers of some."""
    partitions, info = plan.partitions, plan.parameters.catalog
    rows = size = footers = files = columns = 0
    memory = 0.0
    for number in np.unique(np.linspace(0, len(partitions) - 1, _FOOTERS).astype(int)).tolist():
        try:
            for file in partition_files(info, partitions[number].pixel):
                opened = info.files.open_parquet(file)
                footer = opened.metadata
                of_row = column_sizes(opened, opened.schema_arrow.names).values()
                memory += footer.num_rows * sum(column.row for column in of_row)
                rows += footer.num_rows
                size += info.files.state(file).size
                footers += footer.serialized_size
                columns = max(columns, footer.num_columns)
                files += 1
        except (MarginCacheError, OSError, ValueError):
            continue
    if not rows:
        return FileSizes(_ROW_BYTES, 2 * _ROW_BYTES, _COLUMNS * _ROW_BYTES, _COLUMNS)
    fixed = footers + files * columns * _COLUMN_BYTES
    return FileSizes(max(size - fixed, size / 10) / rows, memory / rows, footers / files, columns)


def forecast(
    plan: Plan,
    sizes: FileSizes,
    group: RowGroupSize,
    is_mapped: NDArray[np.bool_],
    is_reduced: NDArray[np.bool_],
) -> Forecast:
    """Return the forecast of a margin, of which some map and reduce jobs are done."""
    partitions, owners = plan.partitions, plan.destination_partitions
    fixed = sizes.footer + sizes.columns * _COLUMN_BYTES
    rows = np.maximum(partitions.sizes - fixed, 0.1 * partitions.sizes) / sizes.row
    margin_rows = rows * margin_shares(plan, partitions.orders)
    shards = _sums(margin_rows * sizes.memory, plan.map_bounds)
    # One file for each negative pixel, and for each partition that probably gets a margin row.
    expected_files = np.where(owners < 0, 1.0, 1 - np.exp(-margin_rows[owners]))
    per_pixel = np.where(owners < 0, 0.0, margin_rows[owners] * sizes.row) + expected_files * fixed
    written = _sums(per_pixel, plan.reduce_bounds)
    footers = _sums(expected_files * sizes.footer, plan.reduce_bounds)
    metadata = float(footers.sum()) if plan.parameters.create_metadata else 0.0
    return Forecast(
        partitions=len(partitions),
        destinations=len(owners),
        negative_pixels=int((owners < 0).sum()),
        map_jobs=int((~is_mapped).sum()),
        reduce_jobs=int((~is_reduced).sum()),
        read=int(_sums(partitions.sizes, plan.map_bounds)[~is_mapped].sum()),
        rows=round(float(margin_rows.sum())),
        size=round(float(written.sum()) + metadata),
        output=round(float(written[~is_reduced].sum()) + metadata),
        intermediate=round(float(shards[~is_mapped].sum() + footers[~is_reduced].sum())),
        memory_mb=_memory(plan, group, shards, is_mapped, is_reduced),
    )


def _sums(values: NDArray[np.number], bounds: Ints) -> NDArray[np.float64]:
    """Return the sums of values between bounds."""
    return np.diff(np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])[bounds])


def _memory(
    plan: Plan,
    group: RowGroupSize,
    shards: NDArray[np.float64],
    is_mapped: NDArray[np.bool_],
    is_reduced: NDArray[np.bool_],
) -> int:
    """Return the memory in MB of the largest job that is to be done."""
    memory = [map_request(plan, job, group).mem_mb for job in np.flatnonzero(~is_mapped).tolist()]
    if not is_reduced.all():
        read = _sums(shards[plan.needs], plan.need_bounds)
        largest = int(np.argmax(np.where(is_reduced, -1.0, read)))
        memory.append(reduce_request(plan, largest, int(read[largest])).mem_mb)
    return max(memory, default=0)
