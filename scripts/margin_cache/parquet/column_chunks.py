"""Where in a Parquet file the columns of row groups lie, by its footer."""

from collections.abc import Collection, Iterable

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.parquet.column_sizes import top_column
from margin_cache.storage.local_listing import ByteRange


def row_ranges(file: pq.ParquetFile, rows: NDArray[np.int64]) -> list[ByteRange]:
    """Return where the row groups lie that hold some rows, given by numbers."""
    return _ranges(file.metadata, groups_of(file.metadata, rows), range(file.metadata.num_columns))


def column_ranges(file: pq.ParquetFile, columns: Collection[str]) -> list[ByteRange]:
    """Return where columns lie, given by names, as far as the file has them."""
    metadata = file.metadata
    leaves = [
        leaf
        for leaf in range(metadata.num_columns)
        if top_column(metadata.schema.column(leaf).path, columns)
    ]
    return _ranges(metadata, range(metadata.num_row_groups), leaves)


def groups_of(metadata: pq.FileMetaData, rows: NDArray[np.int64]) -> list[int]:
    """Return the numbers of the row groups that hold some rows, given by numbers."""
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.unique(np.searchsorted(np.cumsum(sizes), rows, side="right")).tolist()


def _ranges(
    metadata: pq.FileMetaData, groups: Iterable[int], leaves: Collection[int]
) -> list[ByteRange]:
    found = []
    for group in groups:
        for leaf in leaves:
            chunk = metadata.row_group(group).column(leaf)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            found.append((start, start + chunk.total_compressed_size))
    return found
