"""The work of a run, counted by stage: partitions, destination pixels and bytes."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from margin_cache.margin.model import Margin
from margin_cache.margin.receipts import done_jobs
from margin_cache.planning.jobs import audit_bounds


class Stage(StrEnum):
    """A stage with a progress bar; the value is its rule."""

    MAPPING = "map_partitions"
    REDUCING = "reduce_margins"
    FINISHING = "finish_margin"
    AUDITING = "audit_pixels"


UNITS = {
    Stage.MAPPING: "partitions",
    Stage.REDUCING: "pixels",
    Stage.FINISHING: "pixels",
    Stage.AUDITING: "partitions",
}


@dataclass(frozen=True)
class Amount:
    """A number of partitions or pixels, and the bytes of the partitions; 0 bytes for pixels."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.count + other.count, self.size + other.size)


@dataclass(frozen=True)
class StageWork:
    """The whole work of a stage, and the part that was done before the run."""

    total: Amount
    done: Amount


@dataclass(frozen=True)
class MarginWork:
    """The work of a margin, or of an audit."""

    name: str
    partitions: int
    stages: dict[Stage, StageWork]


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


def together(stages: Sequence[StageProgress]) -> StageProgress:
    """Return the progress of a stage of several margins, as if it were one."""
    starts = [stage.started for stage in stages if stage.started is not None]
    ends = [stage.ended for stage in stages if stage.ended is not None]
    return StageProgress(
        sum((stage.total for stage in stages), Amount()),
        sum((stage.before for stage in stages), Amount()),
        sum((stage.done for stage in stages), Amount()),
        min(starts, default=None),
        max(ends, default=None) if all(stage.is_complete for stage in stages) else None,
    )


def amount(margin: Margin, stage: Stage, job: str = "") -> Amount:
    """Return the work of one job of a stage, by its name; the job that finishes has no name."""
    plan = margin.plan
    if stage is Stage.MAPPING:
        number = plan.map_job_of(job)
        sizes = plan.partitions.sizes[plan.map_bounds[number] : plan.map_bounds[number + 1]]
        return Amount(len(sizes), int(sizes.sum()))
    if stage is Stage.REDUCING:
        number = plan.reduce_job_of(job)
        return Amount(int(plan.reduce_bounds[number + 1] - plan.reduce_bounds[number]))
    return Amount(len(plan.destination_orders))


def work_of(margin: Margin, mapping: Container[str], reducing: Container[str]) -> MarginWork:
    """Return the work of a margin, with the names of the map and reduce jobs that a run will do."""
    plan = margin.plan
    is_mapped, is_reduced = done_jobs(margin, mapping, reducing)
    partitions, sizes = np.diff(plan.map_bounds), plan.partitions.sizes
    bytes_of_jobs = np.add.reduceat(sizes, plan.map_bounds[:-1])
    pixels = np.diff(plan.reduce_bounds)
    return MarginWork(
        margin.name,
        len(sizes),
        {
            Stage.MAPPING: StageWork(
                Amount(len(sizes), int(sizes.sum())),
                Amount(int(partitions[is_mapped].sum()), int(bytes_of_jobs[is_mapped].sum())),
            ),
            Stage.REDUCING: StageWork(
                Amount(int(pixels.sum())), Amount(int(pixels[is_reduced].sum()))
            ),
            Stage.FINISHING: StageWork(amount(margin, Stage.FINISHING), Amount()),
        },
    )


def audit_amounts(margin: Margin, fraction: float) -> list[Amount]:
    """Return the work of each job of an audit."""
    sizes = margin.plan.partitions.sizes
    bounds = pairwise(audit_bounds(margin.plan, fraction).tolist())
    return [Amount(end - start, int(sizes[start:end].sum())) for start, end in bounds]
