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
from pathlib import Path
from types import SimpleNamespace

import library
import numpy as np
from margin_cache.config.model import MarginSettings
from margin_cache.planning import jobs as planning_jobs
from support.scaling import (
    Catalog,
    Rates,
    Record,
    compared,
    finishing_mb,
    fitted,
    on_cores,
    planning_cpu,
    table_of_scale,
)

PERFORMANCE = library.ROOT / "docs" / "performance.md"

CATALOGS = (
    # Sizes are rows times columns, at the bytes of a value that such catalogs have on disk.
    Catalog("Gaia DR3", 1.8e9, 152, 1.8e9 * 152 * 3.5e-6, 3_900),
    Catalog("ZTF light curves", 1.2e9, 15, 1.2e9 * 4e-3, 10_000, 0.75),
    Catalog("LSST, 20,000 partitions", 40e9, 250, 40e9 * 250 * 4e-6, 20_000, 0.45),
    Catalog("LSST, 200,000 partitions", 40e9, 250, 40e9 * 250 * 4e-6, 200_000, 0.45),
)


def cut(catalog: Catalog) -> tuple[int, int]:
    """The numbers of map and of reduce jobs, as planning cuts partitions of equal size."""
    sizes = np.full(catalog.partitions, catalog.megabytes * 1e6 / catalog.partitions).astype(int)
    settings = SimpleNamespace(
        partitions_per_job="auto",
        job_size_mb=MarginSettings.__dataclass_fields__["job_size_mb"].default,
    )
    bounds = planning_jobs._group(settings, sizes, np.arange(catalog.partitions), is_alone=True)
    return len(bounds[0]) - 1, len(bounds[1]) - 1


def prediction(catalog: Catalog, rates: Rates, records: list[Record]) -> dict[str, str]:
    """What a margin of a catalog takes, as cells of a table."""
    map_jobs, reduce_jobs = cut(catalog)
    margin_mb = catalog.megabytes * catalog.share
    mapping = map_jobs * rates.start + rates.map_file * catalog.partitions
    mapping += rates.map_mb * catalog.megabytes
    reducing = reduce_jobs * rates.start + rates.reduce_file * catalog.partitions
    reducing += rates.reduce_mb * margin_mb
    finishing = rates.start + rates.finish_file * catalog.partitions
    found = table_of_scale(PERFORMANCE.read_text(encoding="utf-8"))
    planning = planning_cpu(found, catalog.partitions, map_jobs + reduce_jobs)
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
        "memory of finishing": f"{finishing_mb(found, catalog.partitions):,.0f} MB",
        "_metadata": f"{footers_mb:,.0f} MB",
    }
    for cores in (1, 16, 1000):
        # Planning and finishing have one core; a job is on one core from its start to its end.
        mapping_wall = on_cores(mapping, map_jobs, cores)
        wall = planning + mapping_wall + on_cores(reducing, reduce_jobs, cores) + finishing
        cells[f"wall on {cores:,} cores"] = _hours(wall)
        cells[f"read in mapping, {cores:,} cores"] = f"{catalog.megabytes / mapping_wall:,.0f} MB/s"
        cells[f"serial part, {cores:,} cores"] = f"{(planning + finishing) / wall:.0%}"
    return cells


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _most(records: list[Record], stage: str) -> str:
    least = max(record["stages"][stage]["peak_mb"] for record in records)
    return f"{least:,.0f} MB or more; requests at least {planning_jobs._SNAKEMAKE_MB + 100} MB"


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
    print(library.provenance("Estimated"))
    print("| rate, fitted | CPU ms |\n|---|---:|")
    for name, value in vars(rates).items():
        told = f"{1000 * value:.2f}" if value else "hidden by noise, left out"
        print(f"| {name.replace('_', ', a ')} | {told} |")
    print("\n| sky | stage | CPU s, estimated | measured | ratio |\n|---|---|---:|---:|---:|")
    for sky, record in records.items():
        for stage, predicted, measured in compared(rates, record):
            ratio = f"{predicted / measured:.2f}"
            print(f"| {sky} | {stage} | {predicted:.2f} | {measured:.2f} | {ratio} |")
    found = {catalog.name: prediction(catalog, rates, fit) for catalog in CATALOGS}
    print(f"\n| *all estimated* | {' | '.join(found)} |\n|---|{'---:|' * len(found)}")
    for key in next(iter(found.values())):
        print(f"| {key} | {' | '.join(cells[key] for cells in found.values())} |")


if __name__ == "__main__":
    main()
