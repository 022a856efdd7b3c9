"""Files of partitions, open, so that all that is read is of one state of them."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.columns import check_columns, check_schema
from margin_cache.catalog.model import CatalogInfo, Partition
from margin_cache.catalog.parquet_types import check_types
from margin_cache.catalog.partitions import unchanged_files
from margin_cache.parquet.column_chunks import row_ranges
from margin_cache.parquet.column_sizes import ColumnSize, column_sizes
from margin_cache.storage.parquet_files import READ_BYTES, open_parquet, unreadable

if TYPE_CHECKING:
    from margin_cache.parquet.remote_reader import RemoteFile, RemoteReader


@dataclass(frozen=True)
class PartitionFile:
    """A file of a partition.

    Attributes:
        path: its path.
        source: the same, open, so that all that is read is of one state of it.
        file: the same, as Parquet.
        remote: what fetches parts of it, if the catalog is remote.
    """

    path: Path
    source: pa.OSFile
    file: pq.ParquetFile
    remote: "RemoteFile | None" = None

    @cached_property
    def schema(self) -> pa.Schema:
        """Its Arrow schema."""
        return self.file.schema_arrow

    @cached_property
    def sizes(self) -> dict[str, ColumnSize]:
        """The sizes of its columns, by name."""
        return column_sizes(self.file, self.schema.names)

    def reopened(self, **options: Any) -> pq.ParquetFile:
        """Return the same as Parquet, for another thread or with other options of PyArrow."""
        return pq.ParquetFile(
            self.source,
            metadata=self.file.metadata,
            pre_buffer=False,
            buffer_size=READ_BYTES,
            **options,
        )

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return int(self.source.size())

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of a remote file that were downloaded."""
        return self.remote.bytes_on_disk if self.remote else 0

    def prefetch_rows(self, rows: NDArray[np.int64]) -> None:
        """Begin to download the row groups with these rows, given by ascending numbers."""
        if self.remote and len(rows):
            self.remote.prefetch(row_ranges(self.file, rows))

    def fetch_rows(self, rows: NDArray[np.int64]) -> None:
        """Download the row groups with these rows, given by ascending numbers.

        Raises:
            MarginCacheError: it cannot be fetched.
        """
        if self.remote and len(rows):
            self.remote.fetch(row_ranges(self.file, rows))


def open_files(
    info: CatalogInfo,
    partition: Partition,
    schema: pa.Schema,
    reader: "RemoteReader | None" = None,
) -> Iterator[PartitionFile]:
    """Yield the files of a partition.

    Args:
        info: the catalog.
        partition: the partition, with its state when the margin was planned.
        schema: the Arrow schema of the catalog.
        reader: what fetches files, if the catalog is remote.

    Raises:
        MarginCacheError: the partition is damaged, has other columns than the catalog, or has
            changed since the margin was planned.
    """
    for path in unchanged_files(info, partition):
        remote = reader.open(path) if reader else None
        path = remote.path if remote else path
        try:
            source = pa.OSFile(str(path))
        except OSError as error:
            raise unreadable(path, error) from None
        file = open_parquet(path, source)
        part = PartitionFile(path, source, file, remote)
        # The catalog's own has been looked at before.
        if not part.schema.equals(schema):
            check_columns(info, part.schema, path)
            check_schema(part.schema, schema, path)
        check_types(file.schema, path)
        if remote:
            # Its room on the disk is given back as soon as nobody reads it any more.
            weakref.finalize(part, remote.close)
        yield part
