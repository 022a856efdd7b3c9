"""Few rows of a Parquet file by Polars, which decodes no more than it must.

PyArrow decodes all values of a row group, however few of its rows are wanted. Polars decodes the
spatial index alone, and of the other columns the values of those rows that are wanted. What comes
out is what PyArrow would read, bit by bit: types of which that is not sure are left to it, and so
are files that Polars refuses or reads otherwise. Only this module imports Polars, when rows are
first asked for, since that takes a tenth of a second.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.parquet.partition_file import PartitionFile

_LEAST_BYTES, _MOST_BYTES = 32 << 20, 256 << 20
"""Columns are read together as long as those of a row group take up no more than four times what
the index takes, which is read again for each part of them; but at least and at most this."""

_RESULT_BYTES = 16 << 20
"""And as long as their wanted values take up no more than this in memory."""

_MOST_ALIKE = 2
"""Rows are asked for by their index alone if no more of them, on average, have the same one: then
few others have it. To ask for their numbers too takes up to a tenth of a map job's time."""

_STDERR = 2

_ALIKE = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_decimal128,
    pa.types.is_date32,
)
"""Types without children that Polars reads as PyArrow does."""

_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


_TELLING = {"SNAPPY", "ZSTD", "BROTLI"}
"""Codecs that tell Polars of most damage. Of GZIP, PyArrow alone compares the checksums; in pages
that are not compressed or by LZ4, Polars takes codes and lengths that PyArrow would refuse."""


class Refused(Exception):
    """Polars does not read rows of a file, or reads others than those that are wanted."""


def is_read_alike(part: PartitionFile, field: pa.Field) -> bool:
    """Tell whether Polars reads a column of a file as PyArrow does, bit by bit.

    Args:
        part: the file.
        field: the column, with its type in the file.
    """
    # Polars takes other names for patterns.
    if field.name == "*" or field.name.startswith("^"):
        return False
    if not part.sizes[field.name].codecs <= _TELLING:
        return False
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return _is_alike(kind)


def _is_alike(kind: pa.DataType) -> bool:
    if any(is_of(kind) for is_of in _ALIKE):
        return True
    if pa.types.is_timestamp(kind):
        # Polars converts seconds, and refuses most names of zones.
        return kind.unit != "s" and kind.tz in (None, "UTC")
    if pa.types.is_duration(kind):
        return kind.unit != "s"
    if any(is_of(kind) for is_of in _LISTS):
        return _is_alike(kind.value_type)
    # Not maps, of whose equal keys Polars keeps the last.
    return pa.types.is_struct(kind) and all(_is_alike(field.type) for field in kind)


def part_bytes(index_bytes: int) -> int:
    """Return most bytes that columns which are read together take up of a row group.

    Args:
        index_bytes: what the spatial index takes up.
    """
    return min(max(4 * index_bytes, _LEAST_BYTES), _MOST_BYTES)


def read_rows(
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    schema: pa.Schema,
    threads: int,
) -> dict[str, pa.ChunkedArray]:
    """Read rows of a file.

    Args:
        part: the file.
        index: name of the spatial index, and its values of the rows, shape (n,); None if the
            catalog has none.
        rows: indices of the rows in the file, ascending, none twice, shape (n,).
        schema: the columns to read, all of which ``is_read_alike``, and the types to cast them to.
        threads: threads of Polars; of all calls in a process the first decides.

    Returns:
        The columns, each of n rows.

    Raises:
        Refused: Polars cannot read the file, or it is not the one that is open.
    """
    polars = _import_polars(threads)
    # Of what PyArrow has decoded before nothing is left, but the memory that it was in.
    pa.default_memory_pool().release_unused()
    taken: dict[str, pa.ChunkedArray] = {}
    if _broken:
        raise Refused("Polars has failed in a way that it may not recover from")
    try:
        for names in _parts(part, index and index[0], schema.names, len(rows)):
            _check_same_file(part)
            table = _collect(polars, part, index, rows, names)
            _check_same_file(part)
            for name in names:
                taken[name] = _cast(table[name], schema.field(name).type)
    except (polars.exceptions.PolarsError, pa.ArrowException, OSError, MemoryError) as error:
        raise Refused(str(error)) from None
    except polars.exceptions.PanicException as error:
        _broken.append(str(error))
        raise Refused(str(error)) from None
    return taken


_broken: list[str] = []
"""What panics of Polars have said. Whether its threads survive one is not promised."""


def _collect(
    polars: ModuleType,
    part: PartitionFile,
    index: tuple[str, NDArray[np.integer]] | None,
    rows: NDArray[np.int64],
    names: list[str],
) -> pa.Table:
    """Read rows of some columns.

    Raises:
        Refused: others come out, as if it decodes the index of a damaged file otherwise.
    """
    number = _new_name(part.schema.names)
    wanted = []
    values = np.unique(index[1]) if index is not None else np.array([])
    if index is not None:
        wanted.append(_is_in(polars, index[0], values))
    if _MOST_ALIKE * len(values) < len(rows):
        wanted.append(_is_in(polars, number, rows.astype(np.uint32)))
    scan = polars.scan_parquet(
        part.path.absolute(),
        parallel="prefiltered",
        row_index_name=number,
        # They may be wrong, and nearly all row groups have wanted rows.
        use_statistics=False,
        hive_partitioning=False,
        glob=False,
    )
    with _silent():
        frame = scan.filter(*wanted).select(number, *names).collect()
    if len(frame) > len(rows):
        # Rows of equal index have come along.
        frame = frame.filter(polars.Series(np.isin(frame[number].to_numpy(), rows)))
    table = frame.to_arrow()
    if not np.array_equal(table[number].to_numpy(), rows):
        raise Refused("Polars finds other rows")
    return table


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast a column to a type, also if it has another only by the names of fields inside."""
    same = pa.field("", column.type).equals(pa.field("", kind), check_metadata=True)
    return column if same else column.cast(kind)


def _is_in(polars: ModuleType, name: str, values: NDArray) -> Any:
    return polars.col(name).is_in(polars.Series(values).implode())


def _new_name(names: list[str]) -> str:
    name = "row"
    while name in names:
        name += "_"
    return name


def _check_same_file(part: PartitionFile) -> None:
    """Check that the file of a path is the one that is open, since Polars opens the path.

    Raises:
        Refused: it is another one, which has been moved there meanwhile.
    """
    if not os.path.samestat(os.fstat(part.source.fileno()), part.path.stat()):
        raise Refused("the file is another one now")


def _parts(
    part: PartitionFile, index: str | None, names: list[str], rows: int
) -> Iterator[list[str]]:
    """Divide columns such that each part is small, in the file and in the result."""
    sizes = part.sizes
    limit = part_bytes(sizes[index].stored if index is not None else 0)
    together: list[str] = []
    in_file, in_result = 0, 0.0
    for name in names:
        stored, result = sizes[name].stored, rows * sizes[name].row
        if together and (in_file + stored > limit or in_result + result > _RESULT_BYTES):
            yield together
            together, in_file, in_result = [], 0, 0.0
        together.append(name)
        in_file, in_result = in_file + stored, in_result + result
    if together:
        yield together


@cache
def _import_polars(threads: int) -> ModuleType:
    """Import Polars with a number of threads, which it can be told only before."""
    os.environ |= {
        "POLARS_MAX_THREADS": str(threads),
        "POLARS_ASYNC_THREAD_COUNT": str(threads),
        # Row groups that are in memory before they are decoded.
        "POLARS_ROW_GROUP_PREFETCH_SIZE": "1",
        # What the system has in memory anyway is read a column at a time.
        "POLARS_FILE_DEFER_CACHED_READS": "1",
        # Its threads free what others have allocated, of which each arena would keep its own.
        "_RJEM_MALLOC_CONF": "narenas:1",
    }
    import polars

    return polars


@contextmanager
def _silent() -> Iterator[None]:
    """Keep from the terminal what Rust prints about a panic, many lines for one error."""
    saved = os.dup(_STDERR)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)
        yield
    finally:
        os.dup2(saved, _STDERR)
        os.close(saved)
