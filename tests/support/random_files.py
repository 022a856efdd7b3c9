"""Parquet files of random columns by the writers that there are, with random options."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from support.random_arrays import Generator, random_array, random_type

INDEX = "index"
NAMES = ("mag", "coord.ra", "coord", "row", "row_", "é", "a b", "^x$", "*", "list.element", "flag")


def random_table(rng: Generator) -> pa.Table:
    """A table with a spatial index, some rows of which have the same."""
    n = int(rng.choice([1, 7, 300, 3000]))
    index = rng.integers(0, max(1, n * int(rng.integers(1, 20))), n).astype(
        str(rng.choice(["int64", "uint64"]))
    )
    columns = {}
    for name in rng.choice(NAMES, rng.integers(1, 6), replace=False):
        columns[str(name)] = random_array(rng, random_type(rng), n)
    columns[INDEX] = pa.array(np.sort(index) if rng.random() < 0.8 else index)
    order = rng.permutation(list(columns))
    return pa.table({str(name): columns[name] for name in order})


def write_by_pyarrow(path: Path, table: pa.Table, rng: Generator) -> None:
    """Write a file by PyArrow."""
    encodings = {
        field.name: str(rng.choice(_encodings(field.type)))
        for field in table.schema
        if rng.random() < 0.5 and _encodings(field.type)
    }
    names = [name for name in table.column_names if name not in encodings]
    pq.write_table(
        table,
        path,
        row_group_size=_some(rng, 1000, 100, None),
        version=_some(rng, "1.0", "2.4", "2.6"),
        use_dictionary=names if rng.random() < 0.7 else False,
        column_encoding=encodings or None,
        compression=_some(rng, "none", "snappy", "gzip", "brotli", "zstd", "lz4"),
        write_statistics=_some(rng, True, False),
        data_page_size=_some(rng, 64, 1000, None),
        dictionary_pagesize_limit=_some(rng, 100, None),
        write_batch_size=_some(rng, 10, None),
        data_page_version=_some(rng, "1.0", "2.0"),
        write_page_index=_some(rng, True, False),
        write_page_checksum=_some(rng, True, False),
        store_schema=_some(rng, True, True, False),
        use_compliant_nested_type=_some(rng, True, True, False),
        use_deprecated_int96_timestamps=rng.random() < 0.1,
    )


def _encodings(kind: pa.DataType) -> list[str]:
    """Encodings that PyArrow writes columns of a type with, beside dictionaries."""
    if pa.types.is_integer(kind) and kind.bit_width >= 32:
        return ["DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN"]
    if kind in (pa.float32(), pa.float64()):
        return ["BYTE_STREAM_SPLIT", "PLAIN"]
    if kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        return ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"]
    if pa.types.is_boolean(kind):
        return ["RLE", "PLAIN"]
    return []


def write_by_polars(path: Path, table: pa.Table, rng: Generator) -> None:
    """Write a file by Polars."""
    import polars as pl

    try:
        pl.from_arrow(table).write_parquet(
            path,
            compression=_some(rng, "zstd", "snappy", "lz4", "gzip", "brotli", "uncompressed"),
            row_group_size=_some(rng, 100, 1000, None),
            data_page_size=_some(rng, 100, 2000, None),
            statistics=_some(rng, True, False, "full"),
        )
    except pl.exceptions.PanicException as error:
        raise ValueError("a type that Polars does not write") from error


def write_by_duckdb(path: Path, table: pa.Table, rng: Generator) -> None:
    """Write a file by DuckDB."""
    import duckdb

    codec = _some(rng, "uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4_raw")
    options = f"FORMAT parquet, COMPRESSION {codec}, ROW_GROUP_SIZE {_some(rng, 2048, 122880)}"
    options += f", PARQUET_VERSION {_some(rng, 'V1', 'V2')}"
    if rng.random() < 0.5:
        options += f", DICTIONARY_SIZE_LIMIT {_some(rng, 1, 100, 10000)}"
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("rows", table)
        connection.execute(f"COPY (SELECT * FROM rows) TO '{path}' ({options})")


def write_by_fastparquet(path: Path, table: pa.Table, rng: Generator) -> None:
    """Write a file by fastparquet."""
    import fastparquet

    fastparquet.write(
        str(path),
        table.to_pandas(),
        compression=_some(rng, "UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD"),
        row_group_offsets=_some(rng, 100, 1000, 50_000_000),
        has_nulls=_some(rng, True, "infer"),
        times=_some(rng, "int64", "int64", "int96"),
        stats=_some(rng, True, False),
    )


Writer = Callable[[Path, pa.Table, Generator], None]

_ALL: dict[str, Writer] = {
    "pyarrow": write_by_pyarrow,
    "polars": write_by_polars,
    "duckdb": write_by_duckdb,
    "fastparquet": write_by_fastparquet,
}

WRITERS = {name: write for name, write in _ALL.items() if importlib.util.find_spec(name)}
"""Those that are installed."""


def _some(rng: Generator, *options: object) -> object:
    return options[rng.integers(len(options))]
