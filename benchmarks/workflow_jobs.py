"""The workflow's jobs, run one after the other and without Snakemake, to be measured."""

# The main process imports nothing large: the memory of a child counts from that of its parent.
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from library import ROOT
from support.measuring import Usage, measure

STAGES = ("map_partitions", "reduce_margins", "finish_margin")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """A job: its rule, the arguments of its script, the memory it asks for, what it reads."""

    rule: str
    arguments: list[str]
    asked_mb: int
    read_mb: float


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a process of its own, whose memory is given back."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def jobs_of(directory: Path, config: Mapping[str, Any], stage: str) -> list[Job]:
    """Return the jobs of a stage; those before it are done.

    Args:
        directory: working directory of the workflow.
        config: its configuration.
        stage: name of the rule.
    """
    os.chdir(directory)
    from margin_cache.config.validation import settings_of_margins
    from margin_cache.margin.model import save_margin
    from margin_cache.margin.prepare import prepare_margins
    from margin_cache.planning.jobs import (
        finish_request,
        largest_row_group,
        map_request,
        reduce_request,
    )

    (margin,) = prepare_margins(settings_of_margins(config))
    save_margin(margin)
    plan = margin.plan
    group = largest_row_group(plan)
    margin_file = str(margin.files.margin_file)
    if stage == "finish_margin":
        return [
            Job(
                stage,
                ["--margin", margin_file],
                finish_request(plan, group).mem_mb,
                0,
            )
        ]
    names = plan.map_names if stage == "map_partitions" else plan.reduce_names
    found = []
    for number, name in enumerate(names):
        arguments = ["--job", name]
        if stage == "map_partitions":
            arguments += ["--plan", str(margin.files.plan)]
            arguments += ["--shard", str(margin.files.shard(name))]
            read = int(plan.partitions.sizes[slice(*plan.map_bounds[number : number + 2])].sum())
            asked = map_request(plan, number, group)
        else:
            arguments += ["--margin", margin_file]
            shards = [margin.files.shard(plan.map_names[need]) for need in plan.needs_of(number)]
            read = sum(shard.stat().st_size for shard in shards)
            asked = reduce_request(plan, number, read)
        found.append(Job(stage, arguments, asked.mem_mb, read / 1e6))
    return found


def run_job(job: Job, directory: Path) -> Usage:
    """Run a job; return what it took."""
    script = ROOT / "scripts" / f"{job.rule}.py"
    return measure([sys.executable, script, *job.arguments], directory, OPENBLAS_NUM_THREADS="1")
