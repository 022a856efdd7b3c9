"""Where the files of a catalog are: a local directory, or a URL (`remote_files`).

Files are named by their paths relative to the catalog.
"""

import errno
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.urls import is_url

MAGIC = b"PAR1"
TAIL_BYTES = 8  # the end of a Parquet file: the length of its footer and the magic number
READ_BYTES = 1 << 20  # for each column; without it, PyArrow loads the chunks of a row group whole

_TRANSIENT_ERRNO = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOMEM}
"""Errors of the system that say nothing about the file itself."""


_UNKNOWN_CODEC = re.compile(
    rb"\x15(?:[^\x00\x02\x04\x06\x08\x0a\x0c\x0e\x80-\xff]|[\x80-\xff]+[\x00-\x7f])"
    rb"(?:\x16[\x80-\xff]*[\x00-\x7f]){3}[\x19\x26]",
    re.DOTALL,
)
"""A codec other than the eight known ones: between its field header and three numbers that every
column has. Other bytes can match by chance."""

_ASK_ALL_COLUMNS = """
import sys, pyarrow.parquet
footer = pyarrow.parquet.read_metadata(pyarrow.BufferReader(sys.stdin.buffer.read()))
for number in range(footer.num_row_groups):
    footer.row_group(number).to_dict()
"""


def open_parquet(
    path: Path | str, source: pa.NativeFile | None = None, footer: bytes | None = None
) -> pq.ParquetFile:
    """Open a Parquet file to read with one thread and little memory.

    ``path`` is for messages only if ``source``, the open file, is given. ``footer`` is the end of
    the file, if it was read before.
    """
    try:
        if source is None:
            source = pa.OSFile(str(path))
        end = source if footer is None else pa.BufferReader(MAGIC + footer)
        metadata = None if footer is None else pq.read_metadata(end)
        file = pq.ParquetFile(source, metadata=metadata, pre_buffer=False, buffer_size=READ_BYTES)
        if not _kills_the_process(end, file):
            return file
    except FileNotFoundError:
        raise MarginCacheError(f"{path}: no such file.") from None
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    raise MarginCacheError(
        f"{path}: a column is encrypted or has an unknown codec, or the footer is damaged. "
        "Copy the file again, or write the catalog again."
    )


def _kills_the_process(source: pa.NativeFile, file: pq.ParquetFile) -> bool:
    """Return whether PyArrow ends the process when it is asked about a column.

    It does for columns that are encrypted or have an unknown codec. A quick search in the footer
    decides whether a second process has to try.
    """
    end = source.size() - TAIL_BYTES
    length = int.from_bytes(source.read_at(4, end), "little")
    # Files with encrypted columns have a signature in the footer, which PyArrow does not count.
    is_signed = file.metadata.serialized_size != length
    footer = source.read_at(length + TAIL_BYTES, end - length)
    if not is_signed and not _UNKNOWN_CODEC.search(footer):
        return False
    # Slow to import, and hardly ever needed.
    import subprocess

    command = [sys.executable, "-c", _ASK_ALL_COLUMNS]
    asked = subprocess.run(command, input=MAGIC + footer, capture_output=True, check=False)
    return asked.returncode < 0


def unreadable(path: Path | str, error: BaseException) -> MarginCacheError:
    """Return the error for a file that could not be read."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return RetryableError(f"{path}: cannot be read ({reason}). Check the disk or file server.")
    return MarginCacheError(f"{path}: cannot be read ({reason}). Copy the file again.")


class FileState(NamedTuple):
    """Size of a file, and time of its last change in ns; of an object, a digest of its ETag."""

    size: int
    version: int


class CatalogFiles:
    """The files of a catalog in a directory. Methods raise OSError for what cannot be read."""

    def __init__(self, location: str) -> None:
        self.location = location

    def name(self, path: str) -> str:
        """Return the path or the URL of a file, for messages."""
        return str(Path(self.location, path))

    def exists(self, path: str) -> bool:
        """Return whether there is a file or directory; true for a broken link."""
        return os.path.lexists(self.name(path))

    def names(self, directory: str) -> list[str]:
        """Return the names of the entries of a directory, in any order."""
        return os.listdir(self.name(directory))  # noqa: PTH208  # of 70,000 files

    def state(self, path: str) -> FileState:
        state = os.stat(f"{self.location}/{path}")  # noqa: PTH116
        return FileState(state.st_size, state.st_mtime_ns)

    def read(self, path: str) -> bytes:
        return Path(self.location, path).read_bytes()

    def open_parquet(self, path: str) -> pq.ParquetFile:
        return open_parquet(Path(self.location, path))

    def save_listing(self, path: Path) -> None:
        """Save for jobs which files there are, unless they can see it themselves."""


_at_urls: dict[str, CatalogFiles] = {}


def use_remote_files(files: CatalogFiles, url: str) -> None:
    """Let `files_at` return remote files for their own URL, and for that of their collection."""
    _at_urls[files.location] = _at_urls[url.rstrip("/")] = files


def files_at(location: str) -> CatalogFiles:
    """Return the files of a catalog; of a URL, those that this process uses."""
    return _at_urls[location.rstrip("/")] if is_url(location) else CatalogFiles(location)
