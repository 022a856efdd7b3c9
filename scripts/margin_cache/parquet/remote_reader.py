"""Reads remote partitions: each job fetches only the parts that it reads, in advance.

Fetched ranges are written into a sparse file that is private to the process, at their offsets. No
byte is fetched twice. Small files are fetched whole.
"""

import os
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from itertools import count
from pathlib import Path
from queue import PriorityQueue
from threading import Lock, Thread
from time import monotonic

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from margin_cache.parquet.footers import Range, column_ranges, row_ranges
from margin_cache.storage.catalog_files import open_parquet
from margin_cache.storage.object_store import result_of
from margin_cache.storage.remote_files import RemoteFiles

_AHEAD_BYTES, _AHEAD_FILES = 256 << 20, 64
"""Limits of the files that are fetched ahead; at least one is."""

_LEAST_REQUESTS, _MOST_REQUESTS = 2, 16
"""Concurrent requests of a job: at first, and if the job waits for bytes. More than needed would
take time of the processors from the job itself."""

_PATIENCE = 0.1  # [s] that a job waits in all before it makes more requests at once

_CLOSING = 3.0  # [s] that an interrupted job waits for servers

_REQUEST_BYTES = 4 << 20  # most bytes of a request, which are in memory until they are written

_WHOLE_BYTES = 1 << 20
"""Largest files that are fetched whole: further requests take longer than the few bytes that are
not needed."""


class Requests:
    """Threads that make requests, those of earlier files first.

    They are few, and more as soon as the job waits for bytes.
    """

    def __init__(self) -> None:
        self._queue: PriorityQueue[tuple[int, int, Future[None], Callable[[], None] | None]]
        self._queue = PriorityQueue()
        self._numbers = count()
        self._threads: list[Thread] = []
        self._patience = _PATIENCE
        self._start(_LEAST_REQUESTS)

    def submit(self, order: int, call: Callable[[], None] | None) -> Future[None]:
        """Make a request later; None ends a thread."""
        future: Future[None] = Future()
        self._queue.put((order, next(self._numbers), future, call))
        return future

    def wait(self, request: Future[None]) -> None:
        """Wait for the end of a request, and raise its error."""
        start = monotonic()
        wait([request], max(self._patience, 0))
        self._patience -= monotonic() - start
        if self._patience <= 0:
            self._start(_MOST_REQUESTS - len(self._threads))
        result_of(request)

    def close(self) -> None:
        """Wait some seconds for the requests that have begun, and make no others."""
        for _ in self._threads:
            self.submit(-1, None)
        end = monotonic() + _CLOSING
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))

    def _start(self, number: int) -> None:
        for _ in range(number):
            self._threads.append(Thread(target=self._work, name="request", daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while True:
            _, _, future, call = self._queue.get()
            if call is None:
                return
            if not future.set_running_or_notify_cancel():
                continue  # its file was closed
            try:
                call()
            except BaseException as error:  # whoever waits gets it
                future.set_exception(error)
            else:
                future.set_result(None)


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
        requests: Requests,
        order: int = 0,
        columns: Collection[str] = (),
    ) -> None:
        self._files, self._name, self._columns = files, name, columns
        self._requests, self._order = requests, order
        self._state = files.object_state(name)
        self.path, self.size = path, self._state.size
        self._is_whole = self.size <= _WHOLE_BYTES
        self._fetches: dict[Range, Future[None]] = {}
        self._writing = Lock()  # the system would let other threads spin meanwhile

    @property
    def bytes_on_disk(self) -> int:
        return self.size if self._is_whole else sum(end - start for start, end in self._fetches)

    def open(self) -> None:
        """Fetch and read the footer, and begin to fetch the columns."""
        self.path.touch(0o600, exist_ok=False)
        os.truncate(self.path, self.size)
        if self._is_whole:
            footer = self._files.kept_footer(self._name)
            self._fetch(0, self.size - len(footer))
        else:
            footer = self._files.footer(self._name, keep=False)
        self._write(footer, self.size - len(footer))
        self.parquet = open_parquet(self._files.name(self._name), pa.OSFile(str(self.path)))
        if not self._is_whole:
            self.fetch(column_ranges(self.parquet, self._columns))

    def fetch_rows(self, rows: NDArray[np.int64]) -> None:
        """Begin to fetch the row groups with these rows, given by ascending numbers."""
        if not self._is_whole and len(rows):
            self.fetch(row_ranges(self.parquet, rows, self._columns))

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Begin to fetch the ranges.

        Ranges that were given before may be given again, but others must not overlap with them.
        """
        for start, end in ranges:
            for first in range(start, end, _REQUEST_BYTES):
                request = first, min(first + _REQUEST_BYTES, end)
                if request not in self._fetches:
                    fetch = partial(self._fetch, *request)
                    self._fetches[request] = self._requests.submit(self._order, fetch)

    def wait(self) -> None:
        """Wait until everything is on disk that was begun to be fetched."""
        for fetch in self._fetches.values():
            self._requests.wait(fetch)

    def close(self) -> None:
        """Delete the private file."""
        for fetch in self._fetches.values():
            fetch.cancel()
        self.path.unlink(missing_ok=True)

    def _fetch(self, start: int, end: int) -> None:
        self._write(self._files.store.read_range(self._name, start, end, self._state), start)

    def _write(self, content: bytes | memoryview, start: int) -> None:
        with self._writing:
            file = os.open(self.path, os.O_WRONLY)
            try:
                while content:
                    written = os.pwrite(file, content, start)
                    content, start = content[written:], start + written
            finally:
                os.close(file)


class RemoteReader:
    """Opens files in a given order, and fetches footers and positions of the next ones.

    ``columns`` are those that are read of all rows. Private files are made in ``directory``.
    """

    def __init__(
        self, files: RemoteFiles, names: Sequence[str], columns: Collection[str], directory: Path
    ) -> None:
        self._files, self._names, self._columns = files, names, columns
        self._started = 0
        self._directory = directory
        directory.mkdir(parents=True)
        self._ahead: deque[tuple[str, RemoteFile, Future[None]]] = deque()
        self._requests = Requests()

    def open(self, name: str) -> RemoteFile:
        """Return the next file, with its footer and positions on disk."""
        self._start_fetches()
        expected, file, opening = self._ahead.popleft()
        if expected != name:
            raise ValueError(f"{name} is opened before {expected}")
        self._requests.wait(opening)
        self._start_fetches()
        file.wait()
        return file

    def close(self) -> None:
        """Delete everything that was fetched."""
        self._requests.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start_fetches(self) -> None:
        for number in range(self._started, len(self._names)):
            name = self._names[number]
            size = self._files.object_state(name).size + sum(
                file.size for _, file, _ in self._ahead
            )
            if self._ahead and (size > _AHEAD_BYTES or len(self._ahead) >= _AHEAD_FILES):
                return
            path = self._directory / str(number)
            file = RemoteFile(self._files, name, path, self._requests, number, self._columns)
            self._ahead.append((name, file, self._requests.submit(number, file.open)))
            self._started += 1
