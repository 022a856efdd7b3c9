"""Reducing: from the shards around some destinations to one Parquet file per destination.

A job writes its files into the staging directory, and then two small ones: their footers, from
which ``_metadata`` is joined, and a receipt with rows, size and digest of each.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.columns import (
    DESTINATION,
    SOURCE,
    coordinates,
    schema_without_dictionaries,
    shard_schema,
    spatial_index,
    without_dictionaries,
)
from margin_cache.catalog.formats import format_of
from margin_cache.errors import MarginCacheError
from margin_cache.margin.paths import PlanFiles, job_of
from margin_cache.margin.shard import read_rows
from margin_cache.parquet.primary_options import row_group_rows, writer_options
from margin_cache.planning.model import Plan
from margin_cache.storage.files import (
    atomic_files,
    atomic_path,
    content_digest,
    file_digest,
    is_temporary,
    write_json,
)

_BLOCK_BYTES = 8 << 20
"""Rows of several destinations are sorted together up to this size: one by one takes far longer."""

_PARTS = 16
"""Parts of a column that is too large to be sorted at once."""


def reduce_margins(
    plan: Plan, job: int, files: PlanFiles, staging_dir: Path, shard_files: PlanFiles | None = None
) -> dict[str, tuple[int, int, str]]:
    """Write the margins of a reduce job's destinations, their footers and the receipt.

    ``shard_files`` are those of a plan whose shards have the rows of this one, and further rows.
    Return rows, bytes and digest of each file, by its path in the margin.
    """
    parameters, info = plan.parameters, plan.parameters.catalog
    name = plan.reduce_names[job]
    receipt, footers = files.receipt(name), files.footers(name)
    schema = format_of(info).margin_schema(plan.schema, info.path)
    options = writer_options(parameters.primary_options, parameters.write_table_kwargs, schema)
    group_rows = row_group_rows(parameters.primary_options, parameters.write_table_kwargs)
    first, stop = plan.reduce_bounds[job : job + 2].tolist()
    batches: list[pa.RecordBatch] = []
    for need in plan.needs_of(job):
        shard = (shard_files or files).shard(plan.map_names[need])
        batches += read_rows(shard, shard_schema(plan.schema), first, stop)
    if shard_files not in (None, files):
        batches = [selected for batch in batches if len(selected := _own_rows(plan, batch))]
    # The margin's files are about to be replaced, so receipts for older states become invalid.
    for other in receipt.parent.glob(f"{job:05d}-*"):
        if other not in (receipt, footers) and not is_temporary(other.name):
            other.unlink(missing_ok=True)
    written: dict[str, tuple[int, int, str]] = {}
    collected: list[pq.FileMetaData] = []
    try:
        with atomic_files() as write:
            for destination, rows in _margins(plan, batches, first, stop, schema):
                relative = plan.margin_path(destination)
                content, metadata = _as_parquet(rows, schema, options, group_rows)
                write(staging_dir / relative, content)
                metadata.set_file_path(info.footer_path(relative))
                collected.append(metadata)
                written[relative] = (metadata.num_rows, content.size, content_digest(content))
    except pa.ArrowInvalid as error:
        raise MarginCacheError(
            f"{info.path}: rows of a margin do not fit the columns of the catalog "
            f"({str(error).splitlines()[0]}). Write the catalog with another type of this column."
        ) from None
    with atomic_path(footers) as temporary:
        pq.write_metadata(schema, temporary, metadata_collector=collected)
    write_receipt(receipt, footers, written)
    return written


def _own_rows(plan: Plan, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows of a wider margin's shard that are in this margin too."""
    # Slow to import, and not needed with shards of its own.
    from margin_cache.healpix.neighbors import are_candidates, are_in_margins

    parameters, table = plan.parameters, pa.Table.from_batches([rows])
    destination = rows.column(DESTINATION).to_numpy()
    orders, pixels = plan.destination_orders[destination], plan.destination_pixels[destination]
    if parameters.fine_filtering:
        lon, lat = coordinates(parameters.catalog, table)
        own = are_in_margins(lon, lat, orders, pixels, parameters.threshold)
    else:
        index = spatial_index(parameters.catalog, table)
        cells = (index >> index.dtype.type(parameters.cell_shift)).astype(np.int64)
        own = are_candidates(cells, parameters.margin_order, orders, pixels)
    return rows.filter(pa.array(own))


def write_receipt(receipt: Path, footers: Path, files: Mapping[str, tuple[int, int, str]]) -> None:
    """Write what a job has made: rows, bytes and digest of each file, by its path in the margin."""
    record = {
        "job": job_of(receipt),
        "footers": footers.stat().st_size,
        "footers_digest": file_digest(footers),
        "files": files,
    }
    write_json(receipt, record)


def _margins(
    plan: Plan, batches: list[pa.RecordBatch], first: int, stop: int, schema: pa.Schema
) -> Iterator[tuple[int, pa.Table]]:
    """Yield each of the destinations ``first:stop`` that has rows, and its rows.

    Rows are sorted by the spatial index, and rows of equal index by partition and row. They have
    the columns of the margin's files, but no dictionaries.

    The batches are of shards, each sorted by destination, in the order of their partitions.
    """
    # Bounds of the destinations in each batch, shape (batches, destinations + 1).
    bounds = np.array(
        [
            np.searchsorted(batch.column(DESTINATION).to_numpy(), np.arange(first, stop + 1))
            for batch in batches
        ]
    )
    if not len(bounds):
        return
    row_bytes = np.array([batch.nbytes / batch.num_rows for batch in batches])
    for start, end in _blocks(row_bytes @ np.diff(bounds, axis=1)):
        rows = pa.Table.from_batches(
            [
                batch.slice(part[start], part[end] - part[start])
                for batch, part in zip(batches, bounds, strict=True)
            ]
        )
        if not rows.num_rows:
            continue
        keys = rows[DESTINATION].to_numpy()
        order = np.lexsort((spatial_index(plan.parameters.catalog, rows), keys))
        columns = [_take(column, order) for column in rows.columns]
        rows = _margin_columns(plan, pa.Table.from_arrays(columns, schema=rows.schema), schema)
        cuts = np.concatenate([[0], np.cumsum(np.diff(bounds[:, start : end + 1]).sum(axis=0))])
        for number, (low, high) in enumerate(pairwise(cuts.tolist())):
            if low < high:
                yield first + start + number, rows.slice(low, high - low)


def _blocks(sizes: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of runs of destinations with at most ``_BLOCK_BYTES``, or a larger one."""
    start, total = 0, 0.0
    for number, size in enumerate(sizes.tolist()):
        if number > start and total + size > _BLOCK_BYTES:
            yield start, number
            start, total = number, 0.0
        total += size
    yield start, len(sizes)


def _take(column: pa.ChunkedArray, order: NDArray[np.int64]) -> pa.ChunkedArray:
    """Return the values of a column in an order, in several chunks if one cannot hold them.

    PyArrow joins all chunks first, which fails beyond 2 GB of text, bytes or list elements. How the
    values are divided depends on the values alone, because the pages of the margin's file do.
    """
    try:
        return column.take(pa.array(order))
    except pa.ArrowInvalid:
        if len(order) < 2:
            raise
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    taken: list[pa.Array] = []
    for part in np.array_split(order, min(_PARTS, len(order))):
        rows = np.sort(part)
        cuts = np.searchsorted(rows, [0, *ends])
        chunks = [
            chunk.take(pa.array(rows[low:high] - (end - len(chunk))))
            for chunk, end, (low, high) in zip(column.chunks, ends, pairwise(cuts), strict=True)
        ]
        of_part = pa.chunked_array(chunks, column.type)
        taken += _take(of_part, np.searchsorted(rows, part)).chunks
    return pa.chunked_array(taken, column.type)


def _margin_columns(plan: Plan, rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows of shards with the columns of a margin's files, without their dictionaries."""
    source, destination = rows[SOURCE].to_numpy(), rows[DESTINATION].to_numpy()
    pixel_values = format_of(plan.parameters.catalog).pixel_columns(
        (plan.destination_orders[destination], plan.destination_pixels[destination]),
        (plan.partitions.orders[source], plan.partitions.pixels[source]),
    )
    columns = [
        # PyArrow has no cast from numbers to a dictionary of text.
        pa.array(pixel_values[field.name]).cast(without_dictionaries(field.type))
        if field.name in pixel_values
        else rows[field.name]
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema_without_dictionaries(schema))


def _as_parquet(
    rows: pa.Table, schema: pa.Schema, options: dict[str, Any], group_rows: int
) -> tuple[pa.Buffer, pq.FileMetaData]:
    """Return the content and the footer of a margin file, from sorted rows without dictionaries."""
    sink = pa.BufferOutputStream()
    # No metadata_collector: PyArrow uses it after a failure too, and then hides the error.
    with pq.ParquetWriter(sink, schema, **options) as writer:
        for start in range(0, rows.num_rows, group_rows):
            group = rows.slice(start, group_rows)
            if not rows.schema.equals(schema):
                # Dictionaries of its own. `take`, because a cast of lists includes the values
                # outside a slice.
                columns = group.take(pa.array(np.arange(group.num_rows))).columns
                group = pa.Table.from_arrays(columns, schema=schema)
            writer.write_table(group.replace_schema_metadata(schema.metadata), group_rows)
    return sink.getvalue(), writer.writer.metadata
