"""Reducing: from the shards around some destinations to one Parquet file a destination.

A job writes its files into the directory in which the margin is built, and then two small ones:
a receipt, which lists the files with rows, bytes and a digest, and their footers, as one Parquet
metadata file, from which the margin's ``_metadata`` is put together.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.columns import (
    DESTINATION,
    SOURCE,
    check_unchanged,
    without_dictionaries,
)
from margin_cache.catalog.formats import format_of
from margin_cache.parquet.positions import spatial_index
from margin_cache.planning.model import MarginParameters, Plan
from margin_cache.stages.layout import PlanFiles
from margin_cache.stages.shard import read_rows
from margin_cache.storage.files import atomic_path, file_digest, is_temporary, write_json


def reduce_margins(
    plan: Plan, job: int, files: PlanFiles, staging_dir: Path
) -> dict[str, tuple[int, int, str]]:
    """Write the margins of a reduce job's destinations.

    Args:
        plan: the plan.
        job: number of the reduce job.
        files: the plan's files: the shards that the job needs, and the receipt and the footers
            that it writes.
        staging_dir: directory in which the margin is built.

    Returns:
        For each file's path in the catalog its rows, bytes and digest, which the receipt has with
        the size of the footers.

    Raises:
        MarginCacheError: a shard is damaged, or the catalog's columns have changed since the
            margin was planned.
    """
    info = plan.parameters.catalog
    check_unchanged(info, plan.partitions, plan.schema)
    name = plan.reduce_names[job]
    receipt, footers = files.receipt(name), files.footers(name)
    schema = format_of(info).margin_schema(plan.schema)
    writer_options = _writer_options(plan.parameters, schema)
    first, stop = plan.reduce_bounds[job : job + 2]
    shards = [files.shard(plan.map_names[need]) for need in plan.needs_of(job)]
    pieces = _pieces(shards, int(first), int(stop))
    for other in receipt.parent.glob(f"{job:05d}-*"):
        # The files are about to become those of this state of the catalog alone.
        if other not in (receipt, footers) and not is_temporary(other.name):
            other.unlink(missing_ok=True)
    written: dict[str, tuple[int, int, str]] = {}
    collected: list[pq.FileMetaData] = []
    for destination in range(first, stop):
        if destination not in pieces:
            continue
        relative = plan.margin_path(destination)
        path = staging_dir / relative
        table = pa.concat_tables(pieces.pop(destination))
        metadata = _write_margin(plan, destination, table, schema, writer_options, path)
        metadata.set_file_path(format_of(info).footer_path(info, relative))
        collected.append(metadata)
        written[relative] = (metadata.num_rows, path.stat().st_size, file_digest(path))
    with atomic_path(footers) as temporary:
        pq.write_metadata(
            schema,
            temporary,
            metadata_collector=collected,
            write_time_adjusted_to_utc=plan.parameters.utc_times,
        )
    write_json(receipt, {"footers": footers.stat().st_size, "files": written})
    return written


def _pieces(shards: list[Path], first: int, stop: int) -> dict[int, list[pa.Table]]:
    """Return the rows of each destination in a range, in the order of their partitions."""
    pieces: dict[int, list[pa.Table]] = {}
    for shard in shards:
        for batch in read_rows(shard, first, stop):
            destinations = batch.column(DESTINATION).to_numpy()
            low, high = np.searchsorted(destinations, [first, stop])
            found, starts = np.unique(destinations[low:high], return_index=True)
            bounds = np.append(starts, high - low) + low
            for destination, start, end in zip(found, bounds[:-1], bounds[1:], strict=True):
                piece = pa.Table.from_batches([batch.slice(start, end - start)])
                pieces.setdefault(int(destination), []).append(piece)
    return pieces


def _write_margin(
    plan: Plan,
    destination: int,
    rows: pa.Table,
    schema: pa.Schema,
    writer_options: dict[str, Any],
    path: Path,
) -> pq.FileMetaData:
    """Write one margin file, sorted by the spatial index, and return its footer.

    Rows of equal index stay in the order of partition and row, in which they come.

    Args:
        plan: the plan.
        destination: index of the destination that the file is for.
        rows: its rows, as they are in shards.
        schema: schema of the file.
        writer_options: options of PyArrow's Parquet writer.
        path: the file.
    """
    parameters = plan.parameters
    order = np.argsort(spatial_index(parameters.catalog, rows), kind="stable")
    # Without a collector of footers: PyArrow asks for it after a failure too, and hides that.
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, **writer_options) as writer,
    ):
        for start in range(0, len(order), parameters.row_group_rows):
            part = order[start : start + parameters.row_group_rows]
            for table in _row_groups(plan, destination, rows, part, schema):
                writer.write_table(table, row_group_size=parameters.row_group_rows)
    return writer.writer.metadata


def _row_groups(
    plan: Plan, destination: int, rows: pa.Table, order: NDArray[np.int64], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Yield rows of a shard as tables with the columns of a margin file, one for a row group.

    One table, but where partitions have so many categories together that their codes do not fit
    the catalog's type of them. A row group has a dictionary of its own, so that halves may fit.

    Args:
        plan: the plan.
        destination: index of the destination that the rows are for.
        rows: rows of shards.
        order: indices of those wanted, in their order.
        schema: schema of the tables.
    """
    try:
        # Taken, not sliced, since a cast of lists takes what is outside of a slice as well.
        table = _margin_columns(plan, destination, rows.take(pa.array(order)), schema)
    except pa.ArrowInvalid:
        if len(order) < 2:
            raise
        for half in np.array_split(order, 2):
            yield from _row_groups(plan, destination, rows, half, schema)
    else:
        yield table


def _writer_options(parameters: MarginParameters, schema: pa.Schema) -> dict[str, Any]:
    """Return the options that margin files are written with.

    Columns whose values may repeat get dictionaries; those of floats hardly do. Parquet knows
    columns inside others by paths of its own.
    """
    file = io.BytesIO()
    pq.write_metadata(schema, file)
    columns = pq.read_metadata(file).schema
    return {
        "compression": parameters.compression,
        "write_time_adjusted_to_utc": parameters.utc_times,
        "use_dictionary": [
            column.path for column in columns if column.physical_type not in ("FLOAT", "DOUBLE")
        ],
    }


def _margin_columns(plan: Plan, destination: int, rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows of a shard with the columns of a margin file for a destination."""
    source = rows[SOURCE].to_numpy()
    pixel_values = format_of(plan.parameters.catalog).pixel_columns(
        int(plan.destination_orders[destination]),
        int(plan.destination_pixels[destination]),
        plan.partitions.orders[source],
        plan.partitions.pixels[source],
    )
    columns = [
        # There is no cast from numbers to a dictionary of text.
        pa.array(pixel_values[field.name]).cast(without_dictionaries(field.type))
        if field.name in pixel_values
        else rows[field.name]
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
