"""What margins of large catalogs will take, from what measure_stages.py has measured of small.

CPU time of a stage is that of its scripts' starts, and so much for each file and for each MB. Both
come from two skies, one of many small files and one of larger ones; other skies check them. What
planning takes, and the memory of finishing, are from the tables of measure_scale.py in
docs/performance.md.

    python benchmarks/measure_stages.py --no-parts many plain small
    python benchmarks/scaling_model.py --fit many plain --check small
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import library
import numpy as np
from margin_cache.config.model import MarginSettings
from margin_cache.planning import jobs as planning_jobs
from margin_cache.planning import resources

PERFORMANCE = library.ROOT / "docs" / "performance.md"

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


CATALOGS = (
    # Sizes are rows times columns, at the bytes of a value that such catalogs have on disk.
    Catalog("Gaia DR3", 1.8e9, 152, 1.8e9 * 152 * 3.5e-6, 3_900),
    Catalog("ZTF light curves", 1.2e9, 15, 1.2e9 * 4e-3, 10_000, 0.75),
    Catalog("LSST, 20,000 partitions", 40e9, 250, 40e9 * 250 * 4e-6, 20_000, 0.45),
    Catalog("LSST, 200,000 partitions", 40e9, 250, 40e9 * 250 * 4e-6, 200_000, 0.45),
)


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
    """Solve for the rates with what two skies took; no rate is below nothing."""
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


def table_of_scale() -> np.ndarray:
    """The lines of the tables of measure_scale.py in docs/performance.md, shape (n, 12)."""
    lines = PERFORMANCE.read_text(encoding="utf-8").split("## Scale")[1].split("\n## ")[0]
    cells = [line.strip("| ").replace(",", "").split("|") for line in lines.splitlines()]
    return np.array([list(map(float, row)) for row in cells if len(row) == 12 and "." in row[2]])


def planning_cpu(partitions: int, jobs: int) -> float:
    """CPU seconds of a plan and of Snakemake's DAG, by partitions and jobs."""
    found = table_of_scale()
    # Of sizes that were measured several times the least counts: what others did is no part of it.
    rows = [min(found[found[:, 0] == size], key=lambda row: row[3]) for size in set(found[:, 0])]
    factors = np.array([[1.0, row[0], row[1]] for row in rows])
    solution, *_ = np.linalg.lstsq(factors, np.array([row[3] for row in rows]), rcond=None)
    return float(solution @ [1.0, partitions, jobs])


def finishing_mb(files: float) -> float:
    """Memory of finishing: on a line through what it took of different numbers of files."""
    found = table_of_scale()
    # The last measurement of a size is that of the code as it is.
    last = {row[8]: row[11] for row in found if row[8] > 50_000}
    slope, offset = np.polyfit(list(last), list(last.values()), 1)
    return float(slope * files + offset)


def cut(catalog: Catalog) -> tuple[int, int]:
    """The numbers of map and of reduce jobs, as planning cuts partitions of equal size."""
    sizes = np.full(catalog.partitions, catalog.megabytes * 1e6 / catalog.partitions).astype(int)
    settings = SimpleNamespace(
        partitions_per_job="auto",
        job_size_mb=MarginSettings.__dataclass_fields__["job_size_mb"].default,
    )
    bounds = planning_jobs._group(settings, sizes, np.arange(catalog.partitions))
    return len(bounds[0]) - 1, len(bounds[1]) - 1


def check(rates: Rates, record: Record) -> list[tuple[str, float, float]]:
    """CPU seconds of the stages of a sky, predicted and measured."""
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


def prediction(catalog: Catalog, rates: Rates, records: list[Record]) -> dict[str, str]:
    """What a margin of a catalog takes, as cells of a table."""
    map_jobs, reduce_jobs = cut(catalog)
    margin_mb = catalog.megabytes * catalog.share
    mapping = map_jobs * rates.start + rates.map_file * catalog.partitions
    mapping += rates.map_mb * catalog.megabytes
    reducing = reduce_jobs * rates.start + rates.reduce_file * catalog.partitions
    reducing += rates.reduce_mb * margin_mb
    finishing = rates.start + rates.finish_file * catalog.partitions
    planning = planning_cpu(catalog.partitions, map_jobs + reduce_jobs)
    footers_mb = catalog.partitions * catalog.columns / 1000
    cells = {
        "rows": f"{catalog.rows:.2g}",
        "columns": f"{catalog.columns}",
        "TB": f"{catalog.megabytes / 1e6:.2f}",
        "partitions": f"{catalog.partitions:,}",
        "margin, of all rows": f"{catalog.share:.2%}",
        "map and reduce jobs": f"{map_jobs:,} + {reduce_jobs:,}",
        "CPU, planning": f"{planning:.0f} s",
        "CPU, mapping": _hours(mapping),
        "CPU, reducing": _hours(reducing),
        "CPU, finishing": f"{finishing:.0f} s",
        "read at most, mapping": f"{catalog.megabytes / 1e6:.2f} TB",
        "written, shards and margin": f"{2 * margin_mb / 1e3:,.0f} GB",
        "memory of a map job": _most(records, "map_partitions"),
        "memory of finishing": f"{max(0.0, finishing_mb(catalog.partitions)):,.0f} MB",
        "_metadata": f"{footers_mb:,.0f} MB",
    }
    for cores in (1, 16, 1000):
        # Planning and finishing have one core; a job is on one core from its start to its end.
        longest = mapping / map_jobs * math.ceil(map_jobs / cores)
        longest += reducing / reduce_jobs * math.ceil(reduce_jobs / cores)
        wall = planning + longest + finishing
        cells[f"wall on {cores:,} cores"] = _hours(wall)
        mapping_wall = mapping / map_jobs * math.ceil(map_jobs / cores)
        cells[f"read in mapping, {cores:,} cores"] = f"{catalog.megabytes / mapping_wall:,.0f} MB/s"
        cells[f"serial part, {cores:,} cores"] = f"{(planning + finishing) / wall:.0%}"
    return cells


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _most(records: list[Record], stage: str) -> str:
    least = max(record["stages"][stage]["peak_mb"] for record in records)
    return f"{least:,.0f} MB or more; asked for at least {resources._SNAKEMAKE_MB + 100} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", nargs=2, default=["many", "plain"], help="skies with rates")
    parser.add_argument("--check", nargs="*", default=["small"], help="skies to check them with")
    parser.add_argument("--results", type=Path, default=library.ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    records = {
        sky: json.loads((arguments.results / f"stages-{sky}.json").read_text(encoding="utf-8"))
        for sky in [*arguments.fit, *arguments.check]
    }
    fit = [records[sky] for sky in arguments.fit]
    rates = fitted(fit)
    print("| rate | CPU ms |\n|---|---:|")
    for name, value in vars(rates).items():
        told = f"{1000 * value:.2f}" if value else "not told from noise, left out"
        print(f"| {name.replace('_', ', a ')} | {told} |")
    print("\n| sky | stage | CPU s, predicted | measured | ratio |\n|---|---|---:|---:|---:|")
    for sky, record in records.items():
        for stage, predicted, measured in check(rates, record):
            ratio = f"{predicted / measured:.2f}"
            print(f"| {sky} | {stage} | {predicted:.2f} | {measured:.2f} | {ratio} |")
    found = {catalog.name: prediction(catalog, rates, fit) for catalog in CATALOGS}
    print(f"\n| | {' | '.join(found)} |\n|---|{'---:|' * len(found)}")
    for key in next(iter(found.values())):
        print(f"| {key} | {' | '.join(cells[key] for cells in found.values())} |")


if __name__ == "__main__":
    main()
