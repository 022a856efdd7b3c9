"""Time and memory of the jobs of a margin, from the files that Snakemake writes of them."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from margin_cache.margin.paths import PlanFiles

_STAGES = {
    "Mapping": "map_partitions",
    "Reducing": "reduce_margins",
    "Finishing": "finish_margin",
}


@dataclass(frozen=True)
class StageCost:
    """What the jobs of a stage have cost, as far as it is known.

    Attributes:
        stage: name of the stage.
        seconds: wall time of each job.
        cpu_seconds: processor time of each job.
        memory_mb: the most memory that each job had.
    """

    stage: str
    seconds: NDArray[np.float64]
    cpu_seconds: NDArray[np.float64]
    memory_mb: NDArray[np.float64]


def read_costs(files: PlanFiles) -> list[StageCost]:
    """Return what the stages of a plan have cost, without those of which nothing is known."""
    costs = []
    for stage, rule in _STAGES.items():
        jobs = [_read(path) for path in sorted(files.benchmarks_dir(rule).glob("*.tsv"))]
        known = [job for job in jobs if job]
        if known:
            costs.append(StageCost(stage, *np.array(known, dtype=np.float64).T))
    return costs


def _read(path: Path) -> tuple[float, float, float] | None:
    """Return wall time, processor time and memory of a job; None if a kill cut the file off."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        return float(row["s"]), _number(row["cpu_time"]), _number(row["max_rss"])
    except (OSError, StopIteration, KeyError, ValueError, TypeError):
        return None


def _number(text: str) -> float:
    """Return a number; 0 of a job that ended before it was looked at."""
    return 0.0 if text in ("NA", "-") else float(text)
