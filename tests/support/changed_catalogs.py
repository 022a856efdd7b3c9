"""Catalogs whose partitions are written again, with other columns or by other options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def rewrite_partitions(
    catalog: Path, edit: Callable[[pa.Table, int], pa.Table], **options: Any
) -> list[Path]:
    """Write all partitions of a catalog again, and have nothing else say what columns it has.

    Args:
        catalog: directory of the catalog.
        edit: takes the rows of a partition and its number.
        options: for PyArrow's Parquet writer.
    Returns:
        the partitions.
    """
    paths = sorted(catalog.rglob("Npix=*.parquet"))
    for number, path in enumerate(paths):
        pq.write_table(edit(pq.ParquetFile(path).read(), number), path, **options)
    for name in ("_metadata", "_common_metadata"):
        (catalog / name).unlink(missing_ok=True)
    return paths


def say_other_codec(path: Path, codec: int) -> None:
    """Have the footer of a file that is compressed with LZ4_RAW name another codec."""
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # The fields of a column's metadata: an integer with the codec, twice, and the next one's head.
    before, after = b"\x15\x0e\x16", b"\x15" + bytes([2 * codec]) + b"\x16"
    footer = content[start:]
    assert footer.count(before) >= pq.ParquetFile(path).metadata.num_columns
    path.write_bytes(content[:start] + footer.replace(before, after))
