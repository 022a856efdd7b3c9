"""The work of a run, counted by stage: partitions, destination pixels and bytes."""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import compress, pairwise

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


@dataclass(frozen=True)
class MarginWork:
    """The work of a margin, or of an audit.

    Attributes:
        jobs: what each job does, by its stage and its name; the job that finishes has no name.
        done: the names of the jobs that were done before the run, by their stages.
    """

    name: str
    partitions: int
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


def work_of(margin: Margin, is_anew: bool) -> MarginWork:
    """Return the work of a margin, whose jobs are all to be done if it is made anew."""
    plan = margin.plan
    sizes = np.add.reduceat(plan.partitions.sizes, plan.map_bounds[:-1]).tolist()
    mapping = map(Amount, np.diff(plan.map_bounds).tolist(), sizes)
    reducing = map(Amount, np.diff(plan.reduce_bounds).tolist())
    work = MarginWork(
        margin.name,
        len(plan.partitions.sizes),
        {
            Stage.MAPPING: dict(zip(plan.map_names, mapping, strict=True)),
            Stage.REDUCING: dict(zip(plan.reduce_names, reducing, strict=True)),
            Stage.FINISHING: {"": Amount(len(plan.destination_orders))},
        },
    )
    if not is_anew:
        for stage, is_done in zip(work.jobs, done_jobs(margin), strict=False):
            work.done[stage] = set(compress(work.jobs[stage], is_done.tolist()))
    return work


def audit_amounts(margin: Margin, fraction: float) -> list[Amount]:
    """Return the work of each job of an audit."""
    sizes = margin.plan.partitions.sizes
    bounds = pairwise(audit_bounds(margin.plan, fraction).tolist())
    return [Amount(end - start, int(sizes[start:end].sum())) for start, end in bounds]
