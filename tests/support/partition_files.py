"""Files that are in no catalog, as those of partitions are opened."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from margin_cache.parquet.partition_file import PartitionFile


def open_file(path: Path) -> PartitionFile:
    """A file, open."""
    source = pa.OSFile(str(path))
    return PartitionFile(str(path), source, pq.ParquetFile(source))
