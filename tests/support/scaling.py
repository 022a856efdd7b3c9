"""What margins of large catalogs will take: the arithmetic of benchmarks/scaling_model.py."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SKY_SQUARE_DEGREES = 41252.96

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Catalog:
    """A catalog to predict the margin of.

    Attributes:
        name: of the catalog.
        rows: number of its rows.
        columns: number of its columns.
        megabytes: size of its files.
        partitions: number of its partitions, of equal size.
        sky: share of the sky that it covers.
        threshold: of its margin, in arcsec.
    """

    name: str
    rows: float
    columns: int
    megabytes: float
    partitions: int
    sky: float = 1.0
    threshold: float = 10.0

    @property
    def share(self) -> float:
        """The rows of a margin, as a share of all."""
        side = math.sqrt(self.sky * SKY_SQUARE_DEGREES / self.partitions) * 3600
        return 4 * self.threshold / side + math.pi * (self.threshold / side) ** 2


@dataclass(frozen=True)
class Rates:
    """CPU seconds: of a script's start; of mapping and of reducing, for each file and each MB."""

    start: float
    map_file: float
    map_mb: float
    reduce_file: float
    reduce_mb: float
    finish_file: float


def fitted(records: list[Record]) -> Rates:
    """Solve for the rates with what two skies took; no rate is below nothing.

    Args:
        records: what ``measure_stages.py`` has written of two skies.
    """
    start = float(np.mean([record["stages"]["a script's start"]["cpu"] for record in records]))

    def work(stage: str) -> list[float]:
        taken = [record["stages"][stage] for record in records]
        return [each["cpu"] - each["jobs"] * start for each in taken]

    def solved(stage: str, of_file: str, of_mb: str) -> tuple[float, float]:
        factors = np.array([[record[of_file], record[of_mb]] for record in records])
        found, *_ = np.linalg.lstsq(factors, np.array(work(stage)), rcond=None)
        if found.min() >= 0:
            return float(found[0]), float(found[1])
        # One of both is too small to be told from the noise: the other is all.
        return (sum(work(stage)) / sum(record[of_file] for record in records), 0.0)

    finish = max(0.0, sum(work("finish_margin")) / sum(record["files"] for record in records))
    return Rates(
        start,
        *solved("map_partitions", "partitions", "megabytes"),
        *solved("reduce_margins", "files", "margin_mb"),
        finish,
    )


def table_of_scale(page: str) -> NDArray[np.float64]:
    """Return the lines of the tables of ``measure_scale.py`` in a page, shape (n, 12).

    Args:
        page: the text of docs/performance.md.
    """
    lines = page.split("## Scale")[1].split("\n## ")[0]
    cells = [line.strip("| ").replace(",", "").split("|") for line in lines.splitlines()]
    return np.array([list(map(float, row)) for row in cells if len(row) == 12 and "." in row[2]])


def planning_cpu(found: NDArray[np.float64], partitions: int, jobs: int) -> float:
    """Return CPU seconds of a plan and of Snakemake's DAG.

    Args:
        found: what ``table_of_scale`` returns.
        partitions: number of partitions.
        jobs: number of map and reduce jobs.
    """
    # Of sizes that were measured several times the least counts: what others did is no part of it.
    rows = [min(found[found[:, 0] == size], key=lambda row: row[3]) for size in set(found[:, 0])]
    factors = np.array([[1.0, row[0], row[1]] for row in rows])
    solution, *_ = np.linalg.lstsq(factors, np.array([row[3] for row in rows]), rcond=None)
    return float(solution @ [1.0, partitions, jobs])


def finishing_mb(found: NDArray[np.float64], files: float) -> float:
    """Return memory of finishing: on a line through what it took of different numbers of files.

    Args:
        found: what ``table_of_scale`` returns.
        files: number of files.
    """
    # The last measurement of a size is that of the code as it is.
    last = {row[8]: row[11] for row in found if row[8] > 50_000}
    slope, offset = np.polyfit(list(last), list(last.values()), 1)
    return max(0.0, float(slope * files + offset))


def compared(rates: Rates, record: Record) -> list[tuple[str, float, float]]:
    """Return stages of a sky with their CPU seconds, predicted and measured."""
    stages = record["stages"]
    predicted = {
        "map_partitions": stages["map_partitions"]["jobs"] * rates.start
        + rates.map_file * record["partitions"]
        + rates.map_mb * record["megabytes"],
        "reduce_margins": stages["reduce_margins"]["jobs"] * rates.start
        + rates.reduce_file * record["files"]
        + rates.reduce_mb * record["margin_mb"],
        "finish_margin": rates.start + rates.finish_file * record["files"],
    }
    return [(stage, value, stages[stage]["cpu"]) for stage, value in predicted.items()]


def on_cores(seconds: float, jobs: int, cores: int) -> float:
    """Return wall time of equal jobs, each of which is on one core from its start to its end.

    Args:
        seconds: CPU time of all of them.
        jobs: their number.
        cores: number of cores.
    """
    return seconds / jobs * math.ceil(jobs / cores)
