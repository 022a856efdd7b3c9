"""Files of a partition are opened in order, if they have their planned state."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.model import CatalogInfo, Partition
from margin_cache.catalog.partitions import partition_state
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from margin_cache.parquet.partition_file import open_files
from support.catalog_infos import HATS

PIXEL = Pixel(1, 5)
TABLE = pa.table({"ra": np.arange(5.0), "dec": np.arange(5.0)})


def catalog_of(directory: Path, names: list[str]) -> CatalogInfo:
    """A catalog whose only partition is a directory of files."""
    info = replace(HATS, path=str(directory), npix_suffix="/")
    path = info.parquet_dir / "Norder=1/Dir=0/Npix=5"
    path.mkdir(parents=True)
    for name in names:
        pq.write_table(TABLE, path / name)
    return info


def partition_of(info: CatalogInfo) -> Partition:
    return Partition(PIXEL, partition_state(info, PIXEL))


def test_files_of_a_partition_are_opened_in_order(tmp_path: Path) -> None:
    names = ["b.parquet", "a.parquet", "c.parquet"]
    info = catalog_of(tmp_path, names)
    found = list(open_files(info, partition_of(info), TABLE.schema))
    assert [part.path.name for part in found] == sorted(names)
    assert [part.size for part in found] == [part.path.stat().st_size for part in found]
    assert all(part.bytes_on_disk == 0 for part in found)


def test_a_file_that_was_replaced_is_read_as_it_was_opened(tmp_path: Path) -> None:
    info = catalog_of(tmp_path, ["a.parquet"])
    (part,) = open_files(info, partition_of(info), TABLE.schema)
    part.path.unlink()
    pq.write_table(TABLE.slice(2), part.path)
    assert part.file.read().num_rows == 5


def test_another_state_or_schema_is_refused(tmp_path: Path) -> None:
    info = catalog_of(tmp_path, ["a.parquet"])
    planned = partition_of(info)
    with pytest.raises(MarginCacheError, match="lacks the column more"):
        list(open_files(info, planned, TABLE.schema.append(pa.field("more", pa.int8()))))
    pq.write_table(TABLE.slice(2), info.parquet_dir / "Norder=1/Dir=0/Npix=5/b.parquet")
    with pytest.raises(MarginCacheError, match="was changed after the run began"):
        list(open_files(info, planned, TABLE.schema))


def test_downloads_are_deleted_with_the_last_reader(tmp_path: Path) -> None:
    info = catalog_of(tmp_path, ["a.parquet"])
    closed: list[Path] = []

    class Remote:
        bytes_on_disk = 7

        def __init__(self, path: Path) -> None:
            self.path = path

        def close(self) -> None:
            closed.append(self.path)

    class Reader:
        def open(self, path: Path) -> Remote:
            return Remote(path)

    reader: Any = Reader()
    parts = list(open_files(info, partition_of(info), TABLE.schema, reader))
    assert [part.bytes_on_disk for part in parts] == [7] and closed == []
    path = parts[0].path
    parts.clear()
    gc.collect()
    assert closed == [path]
