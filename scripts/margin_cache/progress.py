"""The progress of a run: its work, counted by stage, and how it is shown.

On a terminal, a bar for each stage, below the text that others print; elsewhere a line now and
then.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from itertools import pairwise
from typing import TextIO

import numpy as np
from tqdm import tqdm

from margin_cache.margin.existing import done_jobs
from margin_cache.margin.model import Margin
from margin_cache.planning.jobs import audit_bounds
from margin_cache.storage.files import size_text

# --- work ----------------------------------------------------------------------------------------


class Stage(Enum):
    """A stage whose progress is shown, with its rule and the words about it."""

    MAPPING = "map_partitions", "mapped", "partitions"
    REDUCING = "reduce_margins", "reduced", "pixels"
    FINISHING = "finish_margin", "finished", "pixels"
    AUDITING = "audit_pixels", "audited", "partitions"

    def __init__(self, rule: str, verb: str, unit: str) -> None:
        self.rule, self.verb, self.unit = rule, verb, unit


JobKey = tuple[str, Stage, str]
"""The directory of a margin's plan or of an audit, the stage, and the name of a job in them."""


@dataclass(frozen=True)
class Amount:
    """A number of partitions or pixels, and the bytes of the partitions; 0 bytes for pixels."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.count + other.count, self.size + other.size)


@dataclass
class StageProgress:
    """How far a stage of all margins is. Its clock starts with its first job, stops with its last.

    What was done ``before`` the run is in ``done`` too.
    """

    total: Amount = Amount()
    before: Amount = Amount()
    done: Amount = Amount()
    started: float | None = None  # [s]
    ended: float | None = None  # [s]

    def start(self, now: float) -> None:
        if self.started is None:
            self.started = now

    def advance(self, amount: Amount, now: float) -> None:
        self.done += amount
        if self.done == self.total:
            self.ended = now

    def elapsed(self, now: float) -> float:
        if self.started is None:
            return 0.0
        return (now if self.ended is None else self.ended) - self.started

    def seconds_left(self, now: float) -> float | None:
        """Estimate the seconds until the end of the stage, by its own speed; None if unknown."""
        total, before, done = (
            amount.size if self.total.size else amount.count
            for amount in (self.total, self.before, self.done)
        )
        if done == total:
            return 0.0
        if self.started is None or done == before:
            return None
        return self.elapsed(now) * (total - done) / (done - before)


class Work:
    """What the jobs of a run do, and how far its stages are."""

    def __init__(self) -> None:
        self.jobs: dict[JobKey, Amount] = {}
        self.stages = {stage: StageProgress() for stage in Stage}

    def add(self, directory: str, stage: Stage, jobs: Iterable[tuple[str, Amount, bool]]) -> None:
        """Add jobs: names, what they do, and whether they were done before the run."""
        progress = self.stages[stage]
        for name, amount, is_done in jobs:
            self.jobs[directory, stage, name] = amount
            progress.total += amount
            if is_done:
                progress.before = progress.done = progress.done + amount

    def add_margin(self, margin: Margin, is_anew: bool, made_with_it: Sequence[Margin]) -> None:
        """Add the jobs of a margin, which are all to be done if it is made anew.

        Others may be made with its shards, or it with those of another one.
        """
        plan, directory = margin.plan, str(margin.files.plan_dir)
        is_mapped, is_reduced = (array.tolist() for array in done_jobs(margin, made_with_it))
        if is_anew:
            is_mapped, is_reduced = [False] * len(is_mapped), [False] * len(is_reduced)
        if margin.shards_of is None:
            sizes = np.add.reduceat(plan.partitions.sizes, plan.map_bounds[:-1]).tolist()
            amounts = map(Amount, np.diff(plan.map_bounds).tolist(), sizes)
            self.add(directory, Stage.MAPPING, zip(plan.map_names, amounts, is_mapped, strict=True))
        amounts = map(Amount, np.diff(plan.reduce_bounds).tolist())
        jobs = zip(plan.reduce_names, amounts, is_reduced, strict=True)
        self.add(directory, Stage.REDUCING, jobs)
        if not margin.is_finished_by_reducing:
            # The job that finishes has no name.
            amount = Amount(len(plan.destination_orders))
            self.add(directory, Stage.FINISHING, [("", amount, False)])

    def shown_stages(self) -> list[tuple[Stage, StageProgress]]:
        return [
            (stage, progress) for stage, progress in self.stages.items() if progress.total.count
        ]


def audit_amounts(margin: Margin, fraction: float) -> list[Amount]:
    sizes = margin.plan.partitions.sizes
    bounds = pairwise(audit_bounds(margin.plan, fraction).tolist())
    return [Amount(end - start, int(sizes[start:end].sum())) for start, end in bounds]


# --- text ----------------------------------------------------------------------------------------

_BEGIN = "  {desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}"
_FORMS = (
    (15, f"{_BEGIN} {{unit}} [{{elapsed}}<{{left}}{{speed}}{{sizes}}]"),
    (15, f"{_BEGIN} {{unit}} [{{elapsed}}<{{left}}{{sizes}}]"),
    (15, f"{_BEGIN} {{unit}} [{{elapsed}}<{{left}}]"),
    (5, f"{_BEGIN} [{{elapsed}}<{{left}}]"),
    (0, "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{left}]"),
)
"""The forms of a line, from the widest to the narrowest, with the least columns of its bar."""


def bars(work: Work, planned_seconds: float, columns: int, now: float) -> list[str]:
    """Return bars of equal length, in the widest form that fits."""
    stages = work.shown_stages()
    partitions = Amount(next((row.total.count for _, row in stages if row.total.size), 0))
    planning = StageProgress(partitions, Amount(), partitions, 0.0, planned_seconds)
    rows = [("Planning", "partitions", planning)]
    rows += [(stage.name.capitalize(), stage.unit, progress) for stage, progress in stages]
    for least, form in _FORMS:
        without_bar = form.replace("{bar}", "")
        lengths = [len(_bar(*row, without_bar, now)) for row in rows]
        width = columns - max(lengths)
        if width >= least:
            break
    width = max(width, 1)
    texts = [_bar(*row, form, now, n + width) for row, n in zip(rows, lengths, strict=True)]
    return [text[:columns] for text in texts]


def _bar(
    name: str, unit: str, progress: StageProgress, form: str, now: float, columns: int | None = None
) -> str:
    elapsed, left = progress.elapsed(now), progress.seconds_left(now)
    speed = (progress.done.size - progress.before.size) / elapsed if elapsed else 0.0
    sizes = f", {size_text(progress.done.size)} of {size_text(progress.total.size)}"
    return tqdm.format_meter(
        progress.done.count,
        progress.total.count,
        elapsed,
        ncols=columns,
        ascii=False,
        prefix=f"{name:10}",
        bar_format=form,
        unit=unit,
        left="?" if left is None else tqdm.format_interval(left),
        speed=f", {size_text(speed)}/s" if speed else "",
        sizes=sizes if progress.total.size else "",
    )


def line(work: Work, seconds: float, now: float) -> str:
    """Return one line for a log, with the seconds since the start of the run."""
    parts = []
    for stage, progress in work.shown_stages():
        done, total = progress.done, progress.total
        part = f"{stage.verb} {done.count} of {total.count} {stage.unit}"
        if total.size:
            part += f" ({size_text(done.size)} of {size_text(total.size)})"
        if left := progress.seconds_left(now):
            part += f", about {timedelta(seconds=round(left))} left"
        parts.append(part)
    return f"{timedelta(seconds=round(seconds))}: {'; '.join(parts)}"


# --- display -------------------------------------------------------------------------------------

_TICK = 1.0  # [s]
_UP = "\x1b[A\r\x1b[K"  # to the beginning of the line above, which is erased


class Display:
    """Shows the progress of a run. A thread calls ``tick`` each second: jobs may take hours."""

    def __init__(
        self,
        stream: TextIO,
        title: str,
        work: Work,
        planned_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._title = title
        self._work = work
        self._planned_seconds = planned_seconds
        self._clock = clock
        self._opened = self._shown_at = clock()
        self._has_bars = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._lines = 0  # of the bars that are drawn
        # A signal handler may close a display while the same thread draws it.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        if self._has_bars:
            self._show()
        threading.Thread(target=self._tick_until_closed, daemon=True).start()

    def started(self, job: JobKey) -> None:
        """Tell that a job has started; one that does not count is passed over."""
        if job in self._work.jobs:
            with self._lock:
                self._work.stages[job[1]].start(self._clock())

    def finished(self, job: JobKey) -> None:
        if job in self._work.jobs:
            with self._lock:
                progress = self._work.stages[job[1]]
                progress.start(self._opened)  # if nobody has told that a job has started
                progress.advance(self._work.jobs[job], self._clock())
            self.tick()

    def clear(self) -> None:
        """Make room for other text on the same terminal, until the next tick."""
        with self._lock:
            self._write(_UP * self._lines)
            self._lines = 0
            if self._has_bars:
                self._shown_at = self._clock()

    def tick(self) -> None:
        """Show the present state, unless it was shown just before."""
        with self._lock:
            now = self._clock()
            # Lines are a minute apart, and more in a long run: some 200 in a day.
            pause = 0.1 if self._has_bars else max(60.0, 0.02 * (now - self._opened))
            if now - self._shown_at >= pause and not self._closed.is_set():
                self._show()

    def close(self) -> None:
        """Leave the last state of the bars on the terminal."""
        with self._lock:
            if self._has_bars and not self._closed.is_set():
                self._show()
            self._closed.set()

    def _show(self) -> None:
        now = self._shown_at = self._clock()
        if not self._has_bars:
            self._write(f"{line(self._work, now - self._opened, now)}\n")
            return
        columns = terminal_columns(self._stream) - 1
        lines = [self._title[:columns], *bars(self._work, self._planned_seconds, columns, now)]
        self._write(_UP * self._lines + "".join(f"{text}\n" for text in lines))
        self._lines = len(lines)

    def _tick_until_closed(self) -> None:
        while not self._closed.wait(_TICK):
            self.tick()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal or the reader is gone
            self._closed.set()


def terminal_columns(stream: TextIO) -> int:
    """Return the columns of a terminal; if unknown, COLUMNS, or 80."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or shutil.get_terminal_size().columns
