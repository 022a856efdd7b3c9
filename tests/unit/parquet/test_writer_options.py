"""A margin's files are written as the primary's are, or, where that cannot be, as PyArrow does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.partitions import read_partitions
from margin_cache.errors import MarginCacheError
from margin_cache.parquet.primary_options import (
    TYPES_OF_ENCODINGS,
    ColumnOptions,
    PrimaryOptions,
    check_write_options,
    leaf_columns,
    read_primary_options,
    row_group_rows,
    writer_options,
)
from support.catalog_infos import HATS, write_partition
from support.hats_options import hats_options
from support.typed_tables import typed_table


def read_again(table: pa.Table) -> pa.Table:
    """A table as it comes out of a file, where seconds are milliseconds."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return pq.ParquetFile(sink.getvalue()).read()


TYPED = read_again(typed_table(300, 1))


def written(primary: PrimaryOptions, table: pa.Table) -> pq.FileMetaData:
    """The footer of a table that is written as a margin of such a primary is."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, **writer_options(primary, {}, table.schema)
    ) as writer:
        writer.write_table(table)
    file = pq.ParquetFile(sink.getvalue())
    assert file.read().equals(table)
    return file.metadata


def described(footer: pq.FileMetaData) -> list[dict[str, Any]]:
    """What footers say of columns, but where they are and how large."""
    group = footer.row_group(0)
    return [
        {
            name: getattr(column, name)
            for name in (
                *("path_in_schema", "compression", "encodings", "has_dictionary_page"),
                *("is_stats_set", "has_offset_index", "has_column_index"),
            )
        }
        for column in map(group.column, range(group.num_columns))
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"use_dictionary": False},
        {"use_dictionary": False, "compression": "brotli"},
        {"use_dictionary": ["string", "int8"], "write_statistics": ["int8", "float64"]},
        {"use_byte_stream_split": ["int8", "float16"], "use_dictionary": False},
        None,
    ],
    ids=["plain", "brotli", "some", "split", "hats"],
)
def test_columns_of_all_types_are_written_as_in_the_primary(
    options: dict[str, Any] | None, tmp_path: Path
) -> None:
    if options is None:
        options = hats_options(TYPED.schema)
    info = replace(HATS, path=str(tmp_path))
    path = write_partition(info, 0, 0, TYPED)
    pq.write_table(TYPED, path, **options)
    found = described(written(read_primary_options(info, read_partitions(info)), TYPED))
    assert found == described(pq.read_metadata(path))


@pytest.mark.parametrize("encoding", [*TYPES_OF_ENCODINGS, "NONSENSE"])
def test_an_encoding_that_a_type_cannot_have_is_not_used(encoding: str) -> None:
    """Of a column that has another type in a file than in the margin, say."""
    column = ColumnOptions(dictionary=False, encoding=encoding)
    leaves = leaf_columns(TYPED.schema)
    footer = written(PrimaryOptions(columns={path: column for path, _ in leaves}), TYPED)
    possible = {
        path
        for path, physical_type in leaves
        if physical_type in TYPES_OF_ENCODINGS.get(encoding, ()) and "dictionary" not in path
    }
    assert {
        column["path_in_schema"] for column in described(footer) if encoding in column["encodings"]
    } == possible


def test_columns_that_the_primary_lacks_get_the_defaults() -> None:
    options = writer_options(PrimaryOptions(), {}, pa.schema({"margin_Npix": pa.int64()}))
    assert options["use_dictionary"] == options["write_statistics"] == ["margin_Npix"]
    assert options["column_encoding"] is None


# --- write_table_kwargs ---------------------------------------------------------------------

SCHEMA = pa.schema({"index": pa.int64(), "ra": pa.float64(), "name": pa.string()})
PRIMARY = PrimaryOptions(
    compression="zstd",
    compression_level=15,
    page_bytes=1 << 17,
    row_group_rows=1000,
    columns={
        "index": ColumnOptions(dictionary=False, encoding="DELTA_BINARY_PACKED"),
        "ra": ColumnOptions(dictionary=False, encoding="BYTE_STREAM_SPLIT"),
    },
)


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {}),
        ({"compression": "gzip"}, {"compression": "gzip", "compression_level": None}),
        ({"compression_level": 3}, {"compression_level": 3}),
        (
            {"compression": "gzip", "compression_level": 3},
            {"compression": "gzip", "compression_level": 3},
        ),
        ({"data_page_size": 99}, {"data_page_size": 99, "dictionary_pagesize_limit": 99}),
        ({"use_dictionary": False}, {"use_dictionary": False}),
        ({"use_dictionary": True}, {"use_dictionary": ["name"]}),
        (
            {"use_dictionary": ["ra"]},
            {"use_dictionary": ["ra"], "column_encoding": {"index": "DELTA_BINARY_PACKED"}},
        ),
        (
            {"column_encoding": {"name": "DELTA_BYTE_ARRAY"}},
            {
                "use_dictionary": [],
                "column_encoding": {
                    "index": "DELTA_BINARY_PACKED",
                    "ra": "BYTE_STREAM_SPLIT",
                    "name": "DELTA_BYTE_ARRAY",
                },
            },
        ),
        ({"row_group_size": 7}, {}),
        ({"write_statistics": False}, {"write_statistics": False}),
    ],
)
def test_write_table_kwargs_override_the_primarys_options(
    given: dict[str, Any], changed: dict[str, Any]
) -> None:
    before = writer_options(PRIMARY, {}, SCHEMA)
    assert before["use_dictionary"] == ["name"]
    check_write_options(PRIMARY, given, SCHEMA)
    assert writer_options(PRIMARY, given, SCHEMA) == before | changed
    assert row_group_rows(PRIMARY, given) == given.get("row_group_size", 1000)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"coerce_timestamps": "ms"}, "coerce_timestamps is not allowed"),
        ({"row_group_size": 0}, "row_group_size is 0. Give a whole number from 1"),
        ({"write_batch_size": 0}, "write_batch_size is 0. Give a whole number from 1"),
        ({"row_group_size": True}, "row_group_size is True. Give a whole number"),
        ({"data_page_size": "a"}, "PyArrow refuses the options: an integer"),
        (
            {"column_encoding": {"name": "BYTE_STREAM_SPLIT"}},
            "PyArrow refuses the options: BYTE_STREAM",
        ),
        ({"column_encoding": {"name": "RLE"}}, "PyArrow refuses the options: "),
        ({"compression": "lzo"}, "PyArrow refuses the options: While LZO"),
        ({"compression": 3}, "PyArrow refuses the options: "),
        ({"compression_level": "x"}, "PyArrow refuses the options: "),
        (
            {"data_page_version": "3"},
            "PyArrow refuses the options: Unsupported Parquet data page version",
        ),
    ],
)
def test_invalid_options_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(MarginCacheError, match=f"^write_table_kwargs: {said}"):
        check_write_options(PRIMARY, given, SCHEMA)


def test_columns_that_pyarrow_makes_no_empty_arrays_of_are_no_reason_to_refuse() -> None:
    tensors = pa.list_(pa.fixed_shape_tensor(pa.float32(), (2,)))
    check_write_options(PRIMARY, {"compression": "zstd"}, pa.schema({"a": tensors}))
