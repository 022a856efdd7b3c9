"""Shows how far a run is: bars on a terminal, a line now and then elsewhere.

Both live in the terminal that others print to. Call ``clear`` before other text is printed and
``redraw`` after it.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TextIO

from tqdm import tqdm

from margin_cache.progress.work import UNITS, Amount, MarginWork, Stage, StageProgress, progress_of
from margin_cache.storage.files import size_text

_VERBS = {
    Stage.MAPPING: "mapped",
    Stage.REDUCING: "reduced",
    Stage.FINISHING: "finished",
    Stage.AUDITING: "audited",
}
_TICK = 1.0  # [s]


def open_display(
    stream: TextIO, works: Collection[MarginWork], planned_seconds: float
) -> "Display":
    """Begin to show the progress of all margins together: bars on a terminal, lines elsewhere."""
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return Bars(stream, works, planned_seconds)
    return Lines(stream, works)


class Display:
    """Progress of a run. A thread calls ``tick`` each second, since jobs may take hours."""

    def __init__(
        self,
        stream: TextIO,
        works: Collection[MarginWork],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._opened = clock()
        self._stages = progress_of(works)
        # A signal handler may close a display while the same thread draws it.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        threading.Thread(target=self._tick_until_closed, daemon=True).start()

    def started(self, stage: Stage) -> None:
        """Tell that a job of a stage has started."""
        with self._lock:
            self._stages[stage].start(self._clock())

    def advance(self, stage: Stage, amount: Amount) -> None:
        """Count the work of a finished job."""
        with self._lock:
            progress = self._stages[stage]
            progress.start(self._opened)  # if nobody has told that a job has started
            progress.advance(amount, self._clock())

    def clear(self) -> None:
        """Make room for other text on the same terminal."""

    def redraw(self) -> None:
        """Draw again after other text."""

    def tick(self) -> None:
        """Show that time has passed."""
        raise NotImplementedError

    def close(self) -> None:
        """Show the last state."""
        self._closed.set()

    def _tick_until_closed(self) -> None:
        while not self._closed.wait(_TICK):
            with self._lock:
                if not self._closed.is_set():
                    self.tick()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal or the reader is gone
            self._closed.set()


# --- bars ----------------------------------------------------------------------------------------

_BEGIN = "  {desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}"
_FORMS = (
    (15, f"{_BEGIN} {{unit}} [{{elapsed}}<{{left}}{{speed}}{{sizes}}]"),
    (15, f"{_BEGIN} {{unit}} [{{elapsed}}<{{left}}{{sizes}}]"),
    (15, f"{_BEGIN} {{unit}} [{{elapsed}}<{{left}}]"),
    (5, f"{_BEGIN} [{{elapsed}}<{{left}}]"),
    (0, "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{left}]"),
)
"""The forms of a line, from the widest to the narrowest, with the least columns of its bar."""

_MIN_INTERVAL = 0.1  # between two drawings [s]
_UP = "\x1b[A\r\x1b[K"  # to the beginning of the line above, which is erased


@dataclass(frozen=True)
class _Bar:
    name: str
    unit: str
    progress: StageProgress

    def text(self, form: str, now: float, columns: int | None = None) -> str:
        progress = self.progress
        elapsed = progress.elapsed(now)
        left = progress.seconds_left(now)
        sizes = f", {size_text(progress.done.size)} of {size_text(progress.total.size)}"
        return tqdm.format_meter(
            progress.done.count,
            progress.total.count,
            elapsed,
            ncols=columns,
            ascii=False,
            prefix=self.name,
            bar_format=form,
            unit=self.unit,
            left="?" if left is None else tqdm.format_interval(left),
            speed=f", {speed}" if (speed := _speed(progress, elapsed)) else "",
            sizes=sizes if progress.total.size else "",
        )


class Bars(Display):
    """A bar for each stage on a terminal, which move down when other text is printed."""

    def __init__(
        self,
        stream: TextIO,
        works: Collection[MarginWork],
        planned_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        names = [work.name for work in works]
        self._title = names[0] if len(names) == 1 else f"{len(names)} margins"
        partitions = Amount(sum(work.partitions for work in works))
        self._planning = StageProgress(partitions, Amount(), partitions, 0.0, planned_seconds)
        self._lines = 0  # that are drawn
        self._cleared = 0  # how many have cleared the bars and not drawn them again
        self._drawn_at = 0.0
        super().__init__(stream, works, clock)
        with self._lock:
            self.tick()

    def advance(self, stage: Stage, amount: Amount) -> None:
        with self._lock:
            super().advance(stage, amount)
            if self._clock() - self._drawn_at >= _MIN_INTERVAL:
                self.tick()

    def clear(self) -> None:
        with self._lock:
            self._cleared += 1
            self._write(_UP * self._lines)
            self._lines = 0

    def redraw(self) -> None:
        with self._lock:
            self._cleared = max(self._cleared - 1, 0)
            self.tick()

    def tick(self) -> None:
        if self._cleared or self._closed.is_set():
            return
        lines = self._text(terminal_columns(self._stream) - 1)
        self._write(_UP * self._lines + "".join(f"{line}\n" for line in lines))
        self._lines, self._drawn_at = len(lines), self._clock()

    def close(self) -> None:
        with self._lock:
            self._cleared = 0
            self.tick()
            super().close()

    def _text(self, columns: int) -> list[str]:
        """Return the title and bars of equal length, in the widest form that fits."""
        now = self._clock()
        bars = [_Bar(f"{'Planning':10}", "partitions", self._planning)]
        bars += [
            _Bar(f"{stage.name.capitalize():10}", UNITS[stage], progress)
            for stage, progress in self._stages.items()
        ]
        for least, form in _FORMS:
            without_bar = form.replace("{bar}", "")
            lengths = [len(bar.text(without_bar, now)) for bar in bars]
            width = columns - max(lengths)
            if width >= least:
                break
        width = max(width, 1)
        lines = [
            bar.text(form, now, length + width) for bar, length in zip(bars, lengths, strict=True)
        ]
        return [line[:columns] for line in (self._title, *lines)]


def terminal_columns(stream: TextIO) -> int:
    """Return the columns of a terminal; if unknown, COLUMNS, or 80."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or shutil.get_terminal_size().columns


def _speed(progress: StageProgress, elapsed: float) -> str:
    """Return the bytes a second; empty if unknown, and for pixels."""
    size = progress.done.size - progress.before.size
    return f"{size_text(size / elapsed)}/s" if elapsed and size else ""


# --- lines ---------------------------------------------------------------------------------------

_PAUSE = 60.0  # at least, between two lines [s]
_SHARE = 0.02  # of the time since the start, also at least: some 200 lines in a day


class Lines(Display):
    """Lines for logs: one a minute at most, about all margins together."""

    def __init__(
        self,
        stream: TextIO,
        works: Collection[MarginWork],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._said = clock()
        super().__init__(stream, works, clock)

    def tick(self) -> None:
        now = self._clock()
        if now - self._said >= max(_PAUSE, _SHARE * (now - self._opened)):
            self._said = now
            self._write(f"{self.text()}\n")

    def text(self) -> str:
        """Return one line with the progress of all stages."""
        now, parts = self._clock(), []
        for stage, progress in self._stages.items():
            done, total = progress.done, progress.total
            part = f"{_VERBS[stage]} {done.count} of {total.count} {UNITS[stage]}"
            if total.size:
                part += f" ({size_text(done.size)} of {size_text(total.size)})"
            if left := progress.seconds_left(now):
                part += f", about {_duration(left)} left"
            parts.append(part)
        return f"{_duration(now - self._opened)}: {'; '.join(parts)}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
