"""Shards: the rows of a map job, in blocks that can be checked each by itself.

The columns of a shard are ``destination`` and ``source``, indices into the plan's destinations and
partitions, and then the primary's. A block is a message of Arrow's IPC format. Its rows are sorted
by destination and are for one reduce job, so no job has to check rows that it does not need. The
file ends with an index: job, and first and last destination, position, size and checksum of each
block; then checksum and size of the index.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.columns import DESTINATION
from margin_cache.errors import DamagedFileError, RetryableError
from margin_cache.margin.paths import job_of

Block = tuple[int, int, int, int, int]
"""First and last destination, position, size, checksum."""

_END = struct.Struct("<II")
"""Checksum and size of the index."""


def write_rows(
    file: BinaryIO, tables: Sequence[pa.Table], bounds: NDArray[np.integer]
) -> list[Block]:
    """Write rows, sorted by destination; rows of one destination keep their order.

    Reduce job j has the destinations ``bounds[j]:bounds[j + 1]``.
    """
    table = pa.concat_tables(tables)
    order = np.argsort(table[DESTINATION].to_numpy(), kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    cuts = np.searchsorted(table[DESTINATION].to_numpy(), bounds)
    blocks = []
    for start, stop in pairwise(np.unique(cuts).tolist()):
        for batch in table.slice(start, stop - start).to_batches():
            first, last = batch.column(DESTINATION).take([0, len(batch) - 1]).to_pylist()
            message = batch.serialize()
            blocks.append((first, last, file.tell(), message.size, zlib.crc32(message)))
            file.write(message)
    return blocks


def write_index(file: BinaryIO, shard: Path, blocks: Sequence[Block]) -> None:
    """End a shard, which gets the path ``shard`` later.

    The index names plan and job, so a shard that was copied to another path is noticed.
    """
    index = json.dumps([job_of(shard), blocks]).encode()
    file.write(index + _END.pack(zlib.crc32(index), len(index)))


def read_rows(shard: Path, schema: pa.Schema, first: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Yield the blocks of a shard that have rows of the destinations ``first:stop``, and others.

    The shard is mapped into memory, so only these blocks are read. A shard that is damaged, or of
    another job, is deleted, and the next run makes it again.
    """
    try:
        content = pa.memory_map(str(shard)).read_buffer()
        checksum, size = _END.unpack(content.slice(max(0, content.size - _END.size)))
        index = content.slice(max(0, content.size - _END.size - size), size)
        job, blocks = json.loads(index.to_pybytes())
        if zlib.crc32(index) != checksum or job != job_of(shard):
            raise ValueError("a damaged index, or another job's")
        for low, high, start, size, checksum in blocks:
            if low >= stop or high < first:
                continue
            message = content.slice(start, size)
            if zlib.crc32(message) != checksum:
                raise ValueError("another checksum")
            yield pa.ipc.read_record_batch(message, schema)
    except FileNotFoundError:
        raise DamagedFileError(shard, "is missing") from None
    except (pa.ArrowException, OSError, IndexError, TypeError, ValueError, struct.error) as error:
        if isinstance(error, MemoryError):
            raise  # of this process, not of the shard
        # PyArrow's own errors about the content of a file have no number.
        if isinstance(error, OSError) and error.errno:
            raise RetryableError(
                f"{shard}: cannot be read ({os.strerror(error.errno)}). Start the run again."
            ) from None
        with suppress(OSError):
            shard.unlink()
        raise DamagedFileError(shard, "was damaged") from None
