"""What is counted of a margin: partitions, destination pixels and bytes, by its stages."""

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from margin_cache.margin.model import Margin
from margin_cache.margin.receipts import done_jobs
from margin_cache.planning.jobs import audit_bounds


class Stage(StrEnum):
    """A stage that has a bar of its own, beside planning; the value is its rule."""

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
"""What is counted of the stages."""


@dataclass(frozen=True)
class Amount:
    """A part of a stage.

    Attributes:
        count: partitions that are mapped, or pixels that are reduced or finished.
        size: bytes of the files of the partitions; 0 of pixels.
    """

    count: int = 0
    size: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        """Return both together."""
        return Amount(self.count + other.count, self.size + other.size)


@dataclass(frozen=True)
class StageWork:
    """How much a stage has to do, and what of it was done before the run.

    Attributes:
        total: all of it.
        done: what an earlier run has done.
    """

    total: Amount
    done: Amount


@dataclass(frozen=True)
class MarginWork:
    """What is counted of a margin.

    Attributes:
        name: name of the margin.
        partitions: number of partitions that were planned with.
        stages: what its stages have to do.
    """

    name: str
    partitions: int
    stages: dict[Stage, StageWork]


def amount(margin: Margin, stage: Stage, job: str = "") -> Amount:
    """Return what a job does of a stage, by its name; the one that finishes has none."""
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
    """Return what is counted of a margin.

    Args:
        margin: the margin.
        mapping: names of the map jobs that the run is going to do.
        reducing: names of the reduce jobs that it is going to do.
    """
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
    """Return what the jobs of an audit do, in their order.

    Args:
        margin: a margin of the same catalog.
        fraction: how many of the pixels they look at.
    """
    sizes = margin.plan.partitions.sizes
    bounds = pairwise(audit_bounds(margin.plan, fraction).tolist())
    return [Amount(end - start, int(sizes[start:end].sum())) for start, end in bounds]


def together(works: list[MarginWork]) -> MarginWork:
    """Return what is counted of several margins, as if they were one."""
    return MarginWork(
        f"{len(works)} margins",
        sum(work.partitions for work in works),
        {
            stage: StageWork(
                sum((w.stages[stage].total for w in works if stage in w.stages), Amount()),
                sum((w.stages[stage].done for w in works if stage in w.stages), Amount()),
            )
            for stage in Stage
            if any(stage in work.stages for work in works)
        },
    )
