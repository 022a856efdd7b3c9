"""Mapping: from the partitions of a job to one shard with the rows that are in a margin.

A shard is an Arrow IPC file. Its columns are the primary's, after two of its own: ``destination``
and ``source``, indices into the plan's destinations and partitions. A row stands there once for
each destination whose margin it is in. Each record batch is sorted by destination; inside a
destination the rows keep the order of their partitions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import DESTINATION, read_schema, shard_schema
from margin_cache.errors import MarginCacheError
from margin_cache.filtering import are_in_margin, rows_near_borders
from margin_cache.parquet.positions import (
    RowGroup,
    coordinates,
    read_positions,
    row_groups_of,
    spatial_index,
)
from margin_cache.parquet.row_selection import select_rows
from margin_cache.planning.model import Plan
from margin_cache.storage.files import atomic_path

_FLUSH_BYTES = 64 * 10**6
"""Rows are gathered in memory up to this before they are written to the shard."""

_WINDOW_PAIRS, _WINDOW_GROUPS = 1 << 14, 64
"""The exact filter takes the rows of so many row groups at once, since for few rows it takes as
long as for many."""


@dataclass(frozen=True)
class MapResult:
    """What a map job did: rows read, and rows written (once a destination)."""

    rows_read: int
    rows_written: int


@dataclass(frozen=True)
class _Found:
    """Rows of a row group, once for each destination that they may be in the margin of.

    Attributes:
        group: the row group.
        read: number of all its rows.
        rows: indices of the rows in the row group, ascending, shape (n,).
        destinations: indices of destinations, shape (n,).
        positions: spatial index and coordinates, n rows.
    """

    group: RowGroup
    read: int
    rows: NDArray[np.int64]
    destinations: NDArray[np.int64]
    positions: pa.Table


def map_partitions(plan: Plan, job: int, shard: Path) -> MapResult:
    """Write the shard of a map job.

    Args:
        plan: the plan.
        job: number of the map job.
        shard: the file to write.

    Raises:
        MarginCacheError: a partition is damaged, differs from the catalog's schema, changed after
            planning, or has rows without coordinates.
    """
    primary = read_schema(plan.task.catalog, plan.partitions)
    schema = shard_schema(primary)
    read = written = 0
    waiting: list[pa.Table] = []
    waiting_bytes = 0
    with (
        atomic_path(shard) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for found in _rows_in_margins(plan, _rows_near_borders(plan, job, primary)):
            read += found.read
            written += len(found.rows)
            if len(found.rows):
                waiting.append(_shard_rows(found, schema))
                waiting_bytes += waiting[-1].nbytes
            if waiting_bytes > _FLUSH_BYTES:
                _flush(writer, waiting)
                waiting, waiting_bytes = [], 0
        if waiting:
            _flush(writer, waiting)
    return MapResult(read, written)


def _flush(writer: pa.RecordBatchFileWriter, tables: list[pa.Table]) -> None:
    table = pa.concat_tables(tables)
    order = np.argsort(table[DESTINATION].to_numpy(), kind="stable")
    for batch in table.take(pa.array(order)).combine_chunks().to_batches():
        writer.write_batch(batch)


def _rows_near_borders(plan: Plan, job: int, primary: pa.Schema) -> Iterator[_Found]:
    """Yield what the coarse filter finds in each row group of a map job."""
    for partition in range(plan.map_bounds[job], plan.map_bounds[job + 1]):
        for group in row_groups_of(plan, partition, primary):
            read = 0
            rows, destinations, positions = [], [], []
            for table in read_positions(plan, group):
                near, around = rows_near_borders(
                    plan, partition, spatial_index(plan.task.catalog, table)
                )
                rows.append(near + read)
                destinations.append(around)
                positions.append(table.take(pa.array(near)))
                read += table.num_rows
            if read:
                yield _Found(
                    group,
                    read,
                    np.concatenate(rows),
                    np.concatenate(destinations),
                    pa.concat_tables(positions),
                )


def _rows_in_margins(plan: Plan, near: Iterator[_Found]) -> Iterator[_Found]:
    """Yield what the exact filter leaves of the rows that the coarse filter has found."""
    window: list[_Found] = []
    pairs = 0
    for found in near:
        window.append(found)
        pairs += len(found.rows)
        if pairs >= _WINDOW_PAIRS or len(window) >= _WINDOW_GROUPS:
            yield from _filtered(plan, window)
            window, pairs = [], 0
    yield from _filtered(plan, window)


def _filtered(plan: Plan, window: list[_Found]) -> Iterator[_Found]:
    if not window:
        return
    lon, lat = coordinates(
        plan.task.catalog, pa.concat_tables([found.positions for found in window])
    )
    destinations = np.concatenate([found.destinations for found in window])
    within = are_in_margin(plan, lon, lat, destinations)
    ends = np.cumsum([len(found.rows) for found in window])
    for found, kept in zip(window, np.split(within, ends[:-1]), strict=True):
        yield _Found(
            found.group,
            found.read,
            found.rows[kept],
            found.destinations[kept],
            found.positions.filter(pa.array(kept)),
        )


def _shard_rows(found: _Found, schema: pa.Schema) -> pa.Table:
    """Read the rows that have been found, with all columns, as they are in a shard.

    Raises:
        MarginCacheError: the file is damaged, or has nulls that the catalog's schema rules out.
    """
    columns = pa.schema(list(schema)[2:])
    rows = select_rows(found.group, found.positions, found.rows, columns)
    for field in columns:
        if not field.nullable and rows[field.name].null_count:
            raise MarginCacheError(
                f"{found.group.path}: the column {field.name} has nulls, though the catalog's "
                "_common_metadata, or its first partition if there is none, declares that it has "
                "none; correct one of them"
            )
    source = pa.scalar(found.group.partition, pa.uint32())
    return pa.Table.from_arrays(
        [
            pa.array(found.destinations, pa.uint32()),
            pa.repeat(source, len(found.rows)),
            *rows.columns,
        ],
        schema=schema,
    )
