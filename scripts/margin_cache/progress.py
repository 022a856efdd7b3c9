"""The progress of a run: its work, counted by stage, and how it is shown.

A display lives in the terminal that others print to: bars, or without a terminal a line now and
then. Call ``clear`` before other text is printed and ``redraw`` after it.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import compress, pairwise
from typing import NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from margin_cache.margin.existing import done_jobs
from margin_cache.margin.model import Margin
from margin_cache.planning.jobs import audit_bounds
from margin_cache.storage.files import size_text

# --- work ----------------------------------------------------------------------------------------


class Stage(StrEnum):
    """A stage whose progress is shown; the value is its rule."""

    MAPPING = "map_partitions"
    REDUCING = "reduce_margins"
    FINISHING = "finish_margin"
    AUDITING = "audit_pixels"


_VERBS_AND_UNITS = {
    Stage.MAPPING: ("mapped", "partitions"),
    Stage.REDUCING: ("reduced", "pixels"),
    Stage.FINISHING: ("finished", "pixels"),
    Stage.AUDITING: ("audited", "partitions"),
}


@dataclass(frozen=True)
class Amount:
    """A number of partitions or pixels, and the bytes of the partitions; 0 bytes for pixels."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.count + other.count, self.size + other.size)


@dataclass
class StageProgress:
    """How far a stage is. Its clock starts with its first job and stops with its last."""

    total: Amount
    before: Amount
    done: Amount
    started: float | None = None  # [s]
    ended: float | None = None  # [s]

    @property
    def is_complete(self) -> bool:
        return self.done.count >= self.total.count

    def start(self, now: float) -> None:
        if self.started is None:
            self.started = now

    def advance(self, amount: Amount, now: float) -> None:
        self.done += amount
        if self.is_complete:
            self.ended = now

    def elapsed(self, now: float) -> float:
        """Return the seconds that the stage has taken in this run."""
        if self.started is None:
            return 0.0
        return (now if self.ended is None else self.ended) - self.started

    def seconds_left(self, now: float) -> float | None:
        """Estimate the seconds until the end of the stage, by its own speed; None if unknown."""
        if self.is_complete:
            return 0.0
        total, before, done = (
            amount.size if self.total.size else amount.count
            for amount in (self.total, self.before, self.done)
        )
        if self.started is None or done <= before:
            return None
        return self.elapsed(now) * (total - done) / (done - before)

    def speed(self, now: float) -> float:
        """Return the bytes a second of this run; 0 if unknown, and for pixels."""
        elapsed = self.elapsed(now)
        return (self.done.size - self.before.size) / elapsed if elapsed else 0.0


@dataclass(frozen=True)
class MarginWork:
    """The work of a margin, or of an audit.

    Attributes:
        jobs: what each job does, by its stage and its name; the job that finishes has no name.
        done: the names of the jobs that were done before the run, by their stages.
    """

    name: str
    jobs: dict[Stage, dict[str, Amount]]
    done: dict[Stage, set[str]] = field(default_factory=dict)


def progress_of(works: Collection[MarginWork]) -> dict[Stage, StageProgress]:
    """Return how far the stages of all margins together are when the run starts."""
    stages = {}
    for stage in Stage:
        jobs = [
            (amount, name in work.done.get(stage, ()))
            for work in works
            for name, amount in work.jobs.get(stage, {}).items()
        ]
        if jobs:
            total = sum((amount for amount, _ in jobs), Amount())
            done = sum((amount for amount, is_done in jobs if is_done), Amount())
            stages[stage] = StageProgress(total, done, done)
    return stages


def work_of(margin: Margin, is_anew: bool, made_with_it: Sequence[Margin] = ()) -> MarginWork:
    """Return the work of a margin, whose jobs are all to be done if it is made anew.

    Others may be made with its shards, or it with those of another one.
    """
    plan = margin.plan
    sizes = np.add.reduceat(plan.partitions.sizes, plan.map_bounds[:-1]).tolist()
    mapping = map(Amount, np.diff(plan.map_bounds).tolist(), sizes)
    reducing = map(Amount, np.diff(plan.reduce_bounds).tolist())
    work = MarginWork(
        margin.name,
        {
            Stage.MAPPING: dict(zip(plan.map_names, mapping, strict=True)),
            Stage.REDUCING: dict(zip(plan.reduce_names, reducing, strict=True)),
            Stage.FINISHING: {"": Amount(len(plan.destination_orders))},
        },
    )
    if margin.shards_of is not None:
        del work.jobs[Stage.MAPPING]
    if not is_anew:
        stages = (Stage.MAPPING, Stage.REDUCING)
        for stage, is_done in zip(stages, done_jobs(margin, made_with_it), strict=True):
            if stage in work.jobs:
                work.done[stage] = set(compress(work.jobs[stage], is_done.tolist()))
    return work


def audit_amounts(margin: Margin, fraction: float) -> list[Amount]:
    """Return the work of each job of an audit."""
    sizes = margin.plan.partitions.sizes
    bounds = pairwise(audit_bounds(margin.plan, fraction).tolist())
    return [Amount(end - start, int(sizes[start:end].sum())) for start, end in bounds]


# --- displays ------------------------------------------------------------------------------------

_TICK = 1.0  # [s]


def open_display(
    stream: TextIO, works: Collection[MarginWork], planned_seconds: float
) -> "Display":
    """Begin to show the progress of all margins together: bars on a terminal, lines elsewhere."""
    has_cursor = stream.isatty() and os.environ.get("TERM") != "dumb"
    return (Bars if has_cursor else Lines)(stream, works, planned_seconds)


class Display:
    """Progress of a run. A thread calls ``tick`` each second, since jobs may take hours."""

    def __init__(
        self,
        stream: TextIO,
        works: Collection[MarginWork],
        planned_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._works = works
        self._planned_seconds = planned_seconds
        self._clock = clock
        self._opened = self._drawn_at = clock()
        self._stages = progress_of(works)
        # A signal handler may close a display while the same thread draws it.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self.tick()
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


class _Bar(NamedTuple):
    name: str
    unit: str
    progress: StageProgress

    def text(self, form: str, now: float, columns: int | None = None) -> str:
        progress = self.progress
        left, speed = progress.seconds_left(now), progress.speed(now)
        sizes = f", {size_text(progress.done.size)} of {size_text(progress.total.size)}"
        return tqdm.format_meter(
            progress.done.count,
            progress.total.count,
            progress.elapsed(now),
            ncols=columns,
            ascii=False,
            prefix=f"{self.name:10}",
            bar_format=form,
            unit=self.unit,
            left="?" if left is None else tqdm.format_interval(left),
            speed=f", {size_text(speed)}/s" if speed else "",
            sizes=sizes if progress.total.size else "",
        )


class Bars(Display):
    """A bar for each stage on a terminal, which move down when other text is printed."""

    _lines = 0  # that are drawn
    _cleared = 0  # how many have cleared the bars and not drawn them again

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
        names = [work.name for work in self._works]
        title = names[0] if len(names) == 1 else f"{len(names)} margins"
        first_stages = (self._stages.get(stage) for stage in (Stage.MAPPING, Stage.AUDITING))
        partitions = Amount(sum(stage.total.count for stage in first_stages if stage))
        planning = StageProgress(partitions, Amount(), partitions, 0.0, self._planned_seconds)
        bars = [_Bar("Planning", "partitions", planning)]
        for stage, progress in self._stages.items():
            bars.append(_Bar(stage.name.capitalize(), _VERBS_AND_UNITS[stage][1], progress))
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
        return [line[:columns] for line in (title, *lines)]


def terminal_columns(stream: TextIO) -> int:
    """Return the columns of a terminal; if unknown, COLUMNS, or 80."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or shutil.get_terminal_size().columns


# --- lines ---------------------------------------------------------------------------------------

_PAUSE = 60.0  # at least, between two lines [s]
_SHARE = 0.02  # of the time since the start, also at least: some 200 lines in a day


class Lines(Display):
    """Lines for logs: one a minute at most, about all margins together."""

    def tick(self) -> None:
        now = self._clock()
        if now - self._drawn_at >= max(_PAUSE, _SHARE * (now - self._opened)):
            self._drawn_at = now
            self._write(f"{self.text()}\n")

    def text(self) -> str:
        """Return one line with the progress of all stages."""
        now, parts = self._clock(), []
        for stage, progress in self._stages.items():
            done, total = progress.done, progress.total
            verb, unit = _VERBS_AND_UNITS[stage]
            part = f"{verb} {done.count} of {total.count} {unit}"
            if total.size:
                part += f" ({size_text(done.size)} of {size_text(total.size)})"
            if left := progress.seconds_left(now):
                part += f", about {timedelta(seconds=round(left))} left"
            parts.append(part)
        return f"{timedelta(seconds=round(now - self._opened))}: {'; '.join(parts)}"
