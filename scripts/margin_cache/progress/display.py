"""What shows how far a run is: its errors stay readable, and it stays alive between jobs."""

import threading
from collections.abc import Callable

from margin_cache.progress.work import Amount, Stage

Key = tuple[str, Stage]
"""A margin, by the directory of its plan, and a stage of it."""


class Display:
    """Shows how far a run is.

    A thread calls ``tick`` until ``close``: jobs may take hours, and nothing else happens then.
    """

    def __init__(self, every: float) -> None:
        """Take the seconds between ticks."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(every,), daemon=True)
        self._thread.start()

    def _run(self, every: float) -> None:
        while not self._stopped.wait(every):
            self.tick()

    def advance(self, key: Key, amount: Amount) -> None:
        """Count what a job has done."""
        raise NotImplementedError

    def aside(self, write: Callable[[], object]) -> None:
        """Have something else written to the same place."""
        write()

    def tick(self) -> None:
        """Show that time has passed."""
        raise NotImplementedError

    def close(self) -> None:
        """Show the end; nothing is shown after it."""
        self._stopped.set()
        self._thread.join()
