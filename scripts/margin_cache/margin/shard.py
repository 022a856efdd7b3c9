"""Shards: Arrow IPC files with the rows of a map job, of which each batch can be checked by itself.

The columns of a shard are ``destination`` and ``source``, indices into the plan's destinations and
partitions, and then the primary's. Each record batch is sorted by destination, and has rows for one
reduce job, so no job has to check rows that it does not need. The metadata of each batch are its
first and last destination, and a checksum of its content.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import DESTINATION
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.margin.paths import job_of

_LISTS = (
    pa.ListArray,
    pa.LargeListArray,
    pa.FixedSizeListArray,
    pa.ListViewArray,
    pa.LargeListViewArray,
)

_JOB = b"margin_cache:job"
"""Key in the metadata of the schema; its value is the plan's id and the job's name."""

_CONTENT = b"margin_cache:content"
"""Key in the metadata of a batch; its value is first destination, last destination, checksum."""

_DAMAGED_TIME = 0
"""Modification time that marks a shard as damaged. A shard that replaces it has another."""


def new_shard(sink: pa.NativeFile, schema: pa.Schema, shard: Path) -> pa.RecordBatchFileWriter:
    """Start a shard of some columns in a file that gets the path ``shard`` later.

    Its metadata name plan and job, so a shard that was copied to another path is noticed.
    """
    return pa.ipc.new_file(sink, schema.with_metadata({_JOB: job_of(shard)}))


def write_rows(
    writer: pa.RecordBatchFileWriter, tables: Sequence[pa.Table], bounds: NDArray[np.integer]
) -> None:
    """Write rows to a shard, sorted by destination; rows of one destination keep their order.

    Reduce job j has the destinations ``bounds[j]:bounds[j + 1]``.
    """
    table = pa.concat_tables(tables)
    order = np.argsort(table[DESTINATION].to_numpy(), kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    cuts = np.searchsorted(table[DESTINATION].to_numpy(), bounds)
    for start, stop in pairwise(np.unique(cuts).tolist()):
        for batch in table.slice(start, stop - start).to_batches():
            destinations = batch.column(DESTINATION)
            # In the file, as in a message, buffers are without the values around a slice.
            stored = pa.ipc.read_record_batch(batch.serialize(), batch.schema)
            content = f"{destinations[0]} {destinations[-1]} {_checksum(stored)}"
            writer.write_batch(batch, {_CONTENT: content.encode()})


def read_rows(shard: Path, schema: pa.Schema, first: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a shard that have rows of the destinations ``first:stop``, and others.

    The shard is mapped into memory, so only these batches are read. A shard that is damaged, or of
    another job, is marked for deletion, and the next run makes it again.

    Raises:
        RetryableError: the shard cannot be read at the moment.
        MarginCacheError: the shard is missing, damaged, or has another schema.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(shard)))
        if (
            not reader.schema.equals(schema)
            or reader.schema.metadata[_JOB] != job_of(shard).encode()
        ):
            raise ValueError("other columns, or another job's")
        for number in range(reader.num_record_batches):
            stored = reader.get_batch_with_custom_metadata(number)
            low, high, checksum = map(int, stored.custom_metadata[_CONTENT].split())
            if low >= stop or high < first:
                continue
            if _checksum(stored.batch) != checksum:
                raise ValueError("another checksum")
            yield stored.batch
    except FileNotFoundError:
        raise MarginCacheError(
            f"{shard}: is missing. Start the run again; it makes the file again."
        ) from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise  # of this process, not of the shard
        # PyArrow's own errors about the content of a file have no number.
        if isinstance(error, OSError) and error.errno:
            raise RetryableError(
                f"{shard}: cannot be read ({os.strerror(error.errno)}). Start the run again."
            ) from None
        # It is not deleted at once: Snakemake ends a run when an input of another job is missing.
        with suppress(OSError):
            os.utime(shard, (_DAMAGED_TIME, _DAMAGED_TIME))
        raise MarginCacheError(
            f"{shard}: is damaged. Start the run again; it makes the file again."
        ) from None


def delete_damaged(shards_dir: Path) -> None:
    """Delete the shards that jobs of an earlier run have marked as damaged."""
    for shard in shards_dir.glob("*"):
        if shard.stat().st_mtime == _DAMAGED_TIME:
            shard.unlink()


def _checksum(batch: pa.RecordBatch) -> int:
    """Return a fast checksum of a batch. It detects damage, but not deliberate changes.

    It must not interpret the buffers: in a damaged batch, offsets may point anywhere.
    """
    sizes = [size for column in batch.columns for size in _sizes(column)]
    checksum: int = zlib.crc32(np.array([batch.num_rows, *sizes]).tobytes())
    for column in batch.columns:
        for buffer in column.buffers():
            if buffer is not None:
                checksum = zlib.crc32(buffer, checksum)
    return checksum


def _sizes(array: pa.Array) -> Iterator[int]:
    """Yield the length and the number of nulls of an array, then of each array nested in it."""
    yield from (len(array), array.null_count)
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield from _sizes(array.storage)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _sizes(array.field(number))
    elif pa.types.is_map(kind):
        yield from _sizes(array.keys)
        yield from _sizes(array.items)
    elif isinstance(array, _LISTS):
        yield from _sizes(array.values)
