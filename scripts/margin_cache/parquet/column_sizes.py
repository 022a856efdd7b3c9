"""What the columns of a Parquet file take up, and are compressed with, by its footer."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

import pyarrow.parquet as pq

_WIDTHS = {"INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 16}
"""Bytes of a value in memory, of each physical type, at least."""


@dataclass
class ColumnSize:
    """What a column takes up, with all columns inside it.

    Attributes:
        stored: most bytes in the file that it takes of a row group.
        row: bytes of a row in memory, or about as many: values that dictionaries hold are not
            counted each.
        codecs: by PyArrow's names, what it is compressed with.
    """

    stored: int = 0
    row: float = 0.0
    codecs: set[str] = field(default_factory=set)


def column_sizes(file: pq.ParquetFile, names: Iterable[str]) -> dict[str, ColumnSize]:
    """Return the sizes of the columns of a file, by name.

    Args:
        file: the file.
        names: names of its columns.
    """
    sizes = {name: ColumnSize() for name in names}
    metadata = file.metadata
    tops = [
        top_column(metadata.schema.column(leaf).path, sizes) for leaf in range(metadata.num_columns)
    ]
    total = max(metadata.num_rows, 1)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        stored = dict.fromkeys(sizes, 0)
        for leaf, name in enumerate(tops):
            if name:
                chunk = group.column(leaf)
                stored[name] += chunk.total_compressed_size
                sizes[name].codecs.add(chunk.compression)
                sizes[name].row += (
                    max(
                        chunk.total_uncompressed_size,
                        chunk.num_values * _WIDTHS.get(chunk.physical_type, 1),
                    )
                    / total
                )
        for name, size in stored.items():
            sizes[name].stored = max(sizes[name].stored, size)
    return sizes


def top_column(path: str, names: Container[str]) -> str:
    """Return the name of the column that one in the file belongs to, or nothing.

    The path of one inside others begins with their names, and names may have dots.
    """
    while path and path not in names:
        path = path.rpartition(".")[0]
    return path
