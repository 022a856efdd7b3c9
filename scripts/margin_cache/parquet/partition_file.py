"""Opens the files of partitions, so that all reads see one state of a file."""

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.catalog.columns import cast_column, check_columns, check_schema
from margin_cache.catalog.model import CatalogInfo, Partition
from margin_cache.catalog.partitions import unchanged_files
from margin_cache.parquet.footers import ColumnSize, column_sizes, row_ranges
from margin_cache.storage.parquet_files import open_parquet

_RESULT_BYTES = 16 << 20
"""Most bytes in memory of the selected values of columns that are read together."""

if TYPE_CHECKING:
    from margin_cache.parquet.remote_reader import RemoteFile, RemoteReader


@dataclass(frozen=True)
class PartitionFile:
    """An open file of a partition.

    Attributes:
        path: its path or URL, for messages.
        file: the open file, so that all reads see one state of it.
        remote: fetches parts of the file if the catalog is remote.
        catalog_schema: the schema of its catalog, if its own differs.
    """

    path: str
    file: pq.ParquetFile
    remote: "RemoteFile | None" = None
    catalog_schema: pa.Schema | None = None

    @property
    def local_path(self) -> Path:
        """The file on disk; of a remote file, the one with the ranges that were fetched."""
        return self.remote.path if self.remote else Path(self.path)

    @cached_property
    def schema(self) -> pa.Schema:
        return self.file.schema_arrow

    @cached_property
    def sizes(self) -> dict[str, ColumnSize]:
        return column_sizes(self.file, self.schema.names)

    def in_catalog_types(self, columns: dict[str, pa.Array]) -> pa.Table:
        """Return columns of the file with the types of the catalog."""
        if self.catalog_schema is not None:
            columns = {
                name: cast_column(column, self.catalog_schema.field(name), self.path)
                for name, column in columns.items()
            }
        return pa.table(columns)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of a remote file that were downloaded."""
        return self.remote.bytes_on_disk if self.remote else 0

    def fetch_rows(self, rows: NDArray[np.int64], wait: bool = True) -> None:
        """Download the row groups with these rows, given by ascending numbers, if it is remote."""
        if self.remote and len(rows):
            fetch = self.remote.fetch if wait else self.remote.prefetch
            fetch(row_ranges(self.file, rows, self.remote.columns))


def open_files(
    info: CatalogInfo,
    partition: Partition,
    schema: pa.Schema,
    reader: "RemoteReader | None" = None,
) -> Iterator[PartitionFile]:
    """Yield the files of a partition, which has its planned state."""
    for file_path in unchanged_files(info, partition):
        path = info.files.name(file_path)
        remote = reader.open(file_path) if reader else None
        source = pa.OSFile(str(remote.path)) if remote else None
        part = PartitionFile(path, open_parquet(path, source), remote)
        # The schema of the catalog was checked before.
        if not part.schema.equals(schema):
            check_columns(info, part.schema, path)
            check_schema(part.schema, schema, path)
            part = replace(part, catalog_schema=schema)
        if remote:
            # The local copy is deleted as soon as nobody reads it any more.
            weakref.finalize(part, remote.close)
        yield part


def column_groups(
    part: PartitionFile, names: Iterable[str], limit: int, rows: int = 0
) -> Iterator[list[str]]:
    """Divide columns into groups with few bytes in the file and of the selected rows in memory."""
    together: list[str] = []
    in_file, in_memory = 0, 0.0
    for name in names:
        stored, selected = part.sizes[name].stored, rows * part.sizes[name].row
        if together and (in_file + stored > limit or in_memory + selected > _RESULT_BYTES):
            yield together
            together, in_file, in_memory = [], 0, 0.0
        together.append(name)
        in_file, in_memory = in_file + stored, in_memory + selected
    if together:
        yield together
