"""Reads remote partitions: each job fetches only the parts that it reads, in advance.

Fetched ranges are written into a sparse file that is private to the process, at their offsets. No
byte is fetched twice.
"""

import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.parquet.footers import Range, column_ranges
from margin_cache.storage.catalog_files import open_parquet
from margin_cache.storage.remote_files import RemoteFiles

_AHEAD_BYTES, _AHEAD_FILES = 256 << 20, 16
"""Limits of the files that are fetched ahead; at least one is."""

_REQUESTS = 16  # concurrent requests of a job
_REQUEST_BYTES = 8 << 20  # most bytes of a request, which are in memory until they are written


class RemoteFile:
    """A remote file, and the private file ``path`` with the ranges that threads have fetched.

    ``columns`` are fetched when it is opened.
    """

    parquet: pq.ParquetFile

    def __init__(
        self,
        files: RemoteFiles,
        name: str,
        path: Path,
        threads: Executor,
        columns: Collection[str] = (),
    ) -> None:
        self._files, self._name, self._threads, self.columns = files, name, threads, columns
        self._state = files.object_state(name)
        self.path, self.size = path, self._state.size
        self._fetches: dict[Range, Future[None]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600, exist_ok=False)
        os.truncate(path, self.size)

    @property
    def bytes_on_disk(self) -> int:
        return sum(end - start for start, end in self._fetches)

    def fetch_footer(self) -> None:
        footer = self._files.footer(self._name, keep=False)
        self._write(footer, self.size - len(footer))

    def fetch(self, ranges: Iterable[Range], wait: bool = True) -> None:
        """Begin to fetch the ranges that are not on disk, and wait for them.

        Ranges that were given before may be given again, but others must not overlap with them.
        """
        requests = [
            (first, min(first + _REQUEST_BYTES, end))
            for start, end in ranges
            for first in range(start, end, _REQUEST_BYTES)
        ]
        for request in requests:
            if request not in self._fetches:
                self._fetches[request] = self._threads.submit(self._fetch, *request)
        if wait:
            for request in requests:
                self._fetches[request].result()

    def close(self) -> None:
        """Delete the private file."""
        for fetch in self._fetches.values():
            fetch.cancel()
        self.path.unlink(missing_ok=True)

    def _fetch(self, start: int, end: int) -> None:
        self._write(self._files.store.read_range(self._name, start, end, self._state), start)

    def _write(self, content: bytes | memoryview, start: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(start)
            file.write(content)


class RemoteReader:
    """Opens files in a given order, and fetches footers and positions of the next ones.

    ``columns`` are those that are read of all rows. Private files are made in ``directory``.
    """

    def __init__(
        self, files: RemoteFiles, names: Sequence[str], columns: Collection[str], directory: Path
    ) -> None:
        self._files, self._waiting, self._columns = files, list(names), columns
        self._directory = directory
        self._ahead: list[tuple[str, Future[RemoteFile]]] = []
        self._openers = ThreadPoolExecutor(_AHEAD_FILES, thread_name_prefix="prefetch")
        self._requests = ThreadPoolExecutor(_REQUESTS, thread_name_prefix="request")

    def open(self, name: str) -> RemoteFile:
        """Return the next file, with its footer and positions on disk."""
        self._start_fetches()
        expected, file = self._ahead.pop(0)
        if expected != name:
            raise ValueError(f"{name} is opened before {expected}")
        opened = file.result()
        self._start_fetches()
        return opened

    def close(self) -> None:
        """Delete everything that was fetched."""
        self._requests.shutdown(wait=False, cancel_futures=True)
        self._openers.shutdown(cancel_futures=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start_fetches(self) -> None:
        while self._waiting:
            names = [*(name for name, _ in self._ahead), self._waiting[0]]
            size = sum(self._files.object_state(name).size for name in names)
            if self._ahead and (size > _AHEAD_BYTES or len(names) > _AHEAD_FILES):
                return
            self._ahead.append((names[-1], self._openers.submit(self._fetch, self._waiting.pop(0))))

    def _fetch(self, name: str) -> RemoteFile:
        file = RemoteFile(self._files, name, self._directory / name, self._requests, self._columns)
        file.fetch_footer()
        file.parquet = open_parquet(self._files.name(name), pa.OSFile(str(file.path)))
        file.fetch(column_ranges(file.parquet, self._columns))
        return file
