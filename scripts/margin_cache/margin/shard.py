"""Shards: Arrow IPC files with the rows of a map job, of which each batch can be checked by itself.

The columns of a shard are the primary's, after two of its own: ``destination`` and ``source``,
indices into the plan's destinations and partitions. Each record batch is sorted by destination, and
has rows for one reduce job, so that no job reads, to check it, what it does not need. With each
batch go its first and last destination, and a checksum of all that it says.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
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
"""Key of whose a shard is, by plan and job, in the metadata of the schema."""

_CONTENT = b"margin_cache:content"
"""Key of first destination, last destination and checksum of a batch, in the metadata with it."""

_DAMAGED_TIME = 0
"""Time of change that marks a shard as damaged. One that replaces it has another."""


def new_shard(sink: pa.NativeFile, schema: pa.Schema, shard: Path) -> pa.RecordBatchFileWriter:
    """Begin a shard, which says whose it is: one of another plan or job is not to be taken for it.

    Args:
        sink: the file that is written.
        schema: the columns.
        shard: where the file will be.
    """
    return pa.ipc.new_file(sink, schema.with_metadata({_JOB: job_of(shard)}))


def write_rows(
    writer: pa.RecordBatchFileWriter, tables: Sequence[pa.Table], bounds: NDArray[np.integer]
) -> None:
    """Write rows to a shard, sorted by destination; those of one destination keep their order.

    Args:
        writer: the shard.
        tables: the rows, at least one.
        bounds: a reduce job's destinations are those from one of these to before the next one.
    """
    table = pa.concat_tables(tables)
    order = np.argsort(table[DESTINATION].to_numpy(), kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    cuts = np.searchsorted(table[DESTINATION].to_numpy(), bounds)
    for start, stop in pairwise(np.unique(cuts).tolist()):
        for batch in table.slice(start, stop - start).to_batches():
            destinations = batch.column(DESTINATION)
            # Buffers are in the file as they are in a message, without what is around a slice.
            stored = pa.ipc.read_record_batch(batch.serialize(), batch.schema)
            content = f"{destinations[0]} {destinations[-1]} {_checksum(stored)}"
            writer.write_batch(batch, {_CONTENT: content.encode()})


def read_rows(shard: Path, schema: pa.Schema, first: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a shard that have rows of some destinations, and perhaps of others.

    The shard is mapped into memory, so only those are read. If it is damaged, or another job's, it
    is marked, and the next run makes it again.

    Args:
        shard: the file.
        schema: the schema that it has to have.
        first: the first destination.
        stop: one past the last destination.

    Raises:
        MarginCacheError: the shard is missing, cannot be read, or is not whole.
    """
    try:
        opened = _state(shard)
        reader = pa.ipc.open_file(pa.memory_map(str(shard)))
        if (
            not reader.schema.equals(schema)
            or reader.schema.metadata[_JOB] != job_of(shard).encode()
        ):
            raise ValueError("other columns, or another job's")
        for number in range(reader.num_record_batches):
            found = reader.get_batch_with_custom_metadata(number)
            low, high, checksum = map(int, found.custom_metadata[_CONTENT].split())
            if low >= stop or high < first:
                continue
            if _checksum(found.batch) != checksum:
                raise ValueError("another checksum")
            yield found.batch
    except FileNotFoundError:
        raise MarginCacheError(
            f"{shard}: is missing; start the run again, which makes it again"
        ) from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise  # of this process, not of the shard
        # PyArrow's own errors of what it reads have no number.
        if isinstance(error, OSError) and error.errno:
            raise RetryableError(
                f"{shard}: cannot be read ({os.strerror(error.errno)}); start the run again"
            ) from None
        raise MarginCacheError(f"{shard}: is damaged; {_mark_damaged(shard, opened)}") from None


def _state(shard: Path) -> tuple[int, int, int]:
    """Return what differs once another shard has taken the place of this one."""
    state = shard.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _mark_damaged(shard: Path, opened: tuple[int, int, int]) -> str:
    """Mark a shard for deletion unless it was replaced since; return what the user has to do.

    It stays for now: Snakemake ends a run at once when an input of another job is missing.
    """
    try:
        if _state(shard) == opened:
            os.utime(shard, (_DAMAGED_TIME, _DAMAGED_TIME))
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"delete it and start the run again ({error.strerror})"
    return "start the run again, which makes it again"


def delete_damaged(shards_dir: Path) -> None:
    """Delete the shards that jobs of an earlier run have found damaged."""
    for shard in shards_dir.glob("*"):
        if shard.stat().st_mtime == _DAMAGED_TIME:
            shard.unlink()


def _checksum(batch: pa.RecordBatch) -> int:
    """Return a checksum of a batch: quick, against damage, not against intent.

    Nothing in the buffers is made use of, since what is damaged may point anywhere.
    """
    sizes = [size for column in batch.columns for size in _sizes(column)]
    checksum: int = zlib.crc32(np.array([batch.num_rows, *sizes]).tobytes())
    for column in batch.columns:
        for buffer in column.buffers():
            if buffer is not None:
                checksum = zlib.crc32(buffer, checksum)
    return checksum


def _sizes(array: pa.Array) -> Iterator[int]:
    """Yield the numbers of values and of nulls of an array and of those inside it."""
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
