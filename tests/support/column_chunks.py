"""The column chunks of Parquet files, as the library looks for them."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from margin_cache.parquet.column_chunks import Chunk, find_chunk


def chunks_of(path: Path) -> Iterator[tuple[int, str, Chunk | None]]:
    """Row group, name and what is found of each column of a file."""
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        for number in range(metadata.num_columns):
            column = file.schema.column(number)
            kind = file.schema_arrow.field(column.path.partition(".")[0]).type
            yield group, column.path, find_chunk(metadata.column(number), column, kind)
