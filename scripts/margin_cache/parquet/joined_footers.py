"""The footers of many files in one, without reading them into memory.

PyArrow makes objects of all row groups first, which takes some 40 kB for each file of 35 columns.
Here the bytes of the row groups are copied. All else is the same in all footers of a margin.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Sequence
from pathlib import Path

from margin_cache.storage.parquet_files import (
    compact_integer,
    compact_list_head,
    footer_of,
    footer_parts,
)

MOST_BYTES = (1 << 31) - 1
"""The largest footer that readers of Parquet take."""

_MAGIC = b"PAR1"
_ROWS_HEAD, _ROW_GROUPS_HEAD = b"\x16", b"\x19"
"""Heads of the fields with the number of rows and with the row groups."""


def joined_size(footers: Sequence[Path]) -> int:
    """Return the size of the footers of all files in one, or somewhat more."""
    return sum(path.stat().st_size for path in footers)


def join_footers(common: Path, footers: Sequence[Path], target: Path) -> bool:
    """Write the row groups of many files that consist of a footer into one.

    Args:
        common: a file of the same schema without row groups.
        footers: the files.
        target: the file to write.

    Returns:
        Whether it was written. Not if one of them differs from the others in more than its row
        groups, or is laid out in another way, as another version of PyArrow may write it.
    """
    try:
        wanted = footer_parts(footer_of(common))
        rows = groups = 0
        for path in footers:
            parts = footer_parts(footer_of(path))
            if parts.before != wanted.before or not parts.after.endswith(wanted.after):
                return False
            rows, groups = rows + parts.rows, groups + parts.groups
    except ValueError:
        return False
    head = wanted.before + _ROWS_HEAD + compact_integer(rows)
    head += _ROW_GROUPS_HEAD + compact_list_head(groups)
    with target.open("wb") as file:
        file.write(_MAGIC + head)
        for path in footers:
            file.write(footer_parts(footer_of(path)).after.removesuffix(wanted.after))
        file.write(wanted.after)
        length = file.tell() - len(_MAGIC)
        file.write(length.to_bytes(4, "little") + _MAGIC)
    return True
