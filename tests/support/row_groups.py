"""Row groups of files that are in no catalog."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from margin_cache.parquet.positions import RowGroup


def group_of(path: Path, number: int = 0) -> RowGroup:
    """A row group of a file."""
    source = pa.OSFile(str(path))
    return RowGroup(path, source, pq.ParquetFile(source), number)
