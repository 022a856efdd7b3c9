"""Pages are looked into for columns of numbers that are not nested, in known encodings only."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet.column_chunks import Chunk, find_chunk

NUMBERS = np.arange(100.0)


def chunk_of(path: Path, table: pa.Table, arrow_type: pa.DataType, **options: object) -> Chunk:
    pq.write_table(table, path / "table.parquet", **options)
    file = pq.ParquetFile(path / "table.parquet")
    return find_chunk(file.metadata.row_group(0).column(0), file.schema.column(0), arrow_type)


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_a_chunk_spans_all_pages_of_its_column(
    codec: str, dictionary: bool, tmp_path: Path
) -> None:
    table = pa.table({"x": NUMBERS})
    options = {"compression": codec, "use_dictionary": dictionary}
    chunk = chunk_of(tmp_path, table, pa.float64(), **options)
    assert (chunk.count, chunk.dtype) == (100, np.float64)
    # The first column begins behind the magic bytes of the file.
    assert chunk.start == 4
    assert chunk.has_levels
    metadata = pq.read_metadata(tmp_path / "table.parquet").row_group(0).column(0)
    assert chunk.size == metadata.total_compressed_size
    assert (chunk.codec is None) == (codec == "none")


@pytest.mark.parametrize(
    ("column", "arrow_type", "options"),
    [
        (NUMBERS, pa.float64(), {"compression": "gzip"}),
        (NUMBERS, pa.float32(), {}),
        (NUMBERS, pa.float64(), {"column_encoding": "BYTE_STREAM_SPLIT", "use_dictionary": False}),
        (["a", "b"], pa.string(), {}),
        ([[1.0], [2.0, 3.0]], pa.float64(), {}),
        ([{"y": 1.0}], pa.float64(), {}),
    ],
)
def test_other_columns_have_no_chunk(
    column: object, arrow_type: pa.DataType, options: dict, tmp_path: Path
) -> None:
    assert chunk_of(tmp_path, pa.table({"x": column}), arrow_type, **options) is None


def test_a_column_that_can_have_no_nulls_has_no_levels(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("x", pa.int32(), nullable=False)])
    table = pa.table({"x": pa.array([1, 2], pa.int32())}, schema=schema)
    chunk = chunk_of(tmp_path, table, pa.int32())
    assert not chunk.has_levels
