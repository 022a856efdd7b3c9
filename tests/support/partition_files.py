"""Files that are in no catalog, as those of partitions are opened."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from margin_cache.parquet.partition_file import PartitionFile


def open_file(path: Path) -> PartitionFile:
    """A file, open."""
    return PartitionFile(str(path), pq.ParquetFile(pa.OSFile(str(path))))
