"""The files of a map job's partitions in a remote catalog, fetched ahead of the work at them."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from margin_cache.errors import MarginCacheError
from margin_cache.parquet.footers import column_ranges
from margin_cache.storage.parquet_file import open_parquet
from margin_cache.storage.remote_file import RemoteFile

_AHEAD_BYTES, _AHEAD_FILES = 256 << 20, 16
"""Files are fetched ahead as long as they have no more bytes than this, or there is one."""


class RemoteReader:
    """Opens files in their order; meanwhile footers and positions of the next ones are fetched."""

    def __init__(
        self, files: Sequence[Path], columns: Collection[str], make: Callable[[Path], RemoteFile]
    ) -> None:
        """Begin with nothing.

        Args:
            files: the files of the mirror, in the order in which they are going to be opened.
            columns: the columns that are read of all rows.
            make: returns what fetches a file, of which nothing is there yet.
        """
        self._left, self._columns, self._make = list(files), columns, make
        self._coming: list[tuple[Path, int, Future[RemoteFile]]] = []
        self._open: list[RemoteFile] = []
        self._pool = ThreadPoolExecutor(_AHEAD_FILES, thread_name_prefix="ahead")

    def open(self, path: Path) -> RemoteFile:
        """Return what fetches a file, once its footer and its positions are there.

        Raises:
            MarginCacheError: they cannot be fetched, or the file is damaged.
        """
        self._look_ahead()
        expected, _, coming = self._coming.pop(0)
        if expected != path:
            raise ValueError(f"{path} is opened before {expected}")
        file = coming.result()
        self._look_ahead()
        return file

    def close(self) -> None:
        """Delete all that was fetched."""
        for _, _, coming in self._coming:
            coming.cancel()
        self._pool.shutdown()
        for file in self._open:
            file.close()

    def _look_ahead(self) -> None:
        while self._left:
            size = 0
            with suppress(OSError):  # opening it says what is wrong
                size = self._left[0].stat().st_size
            ahead = sum(size for _, size, _ in self._coming) + size
            if self._coming and (ahead > _AHEAD_BYTES or len(self._coming) == _AHEAD_FILES):
                return
            path = self._left.pop(0)
            self._coming.append((path, size, self._pool.submit(self._fetch, path)))

    def _fetch(self, path: Path) -> RemoteFile:
        file = self._make(path)
        self._open.append(file)
        file.need_footer()
        try:
            parquet = open_parquet(file.path)
        except MarginCacheError:
            return file  # whoever opens it next says so
        file.need(column_ranges(parquet, self._columns))
        return file
