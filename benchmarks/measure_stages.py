"""Where the time goes: start-up, the jobs of each rule, and the parts of a map job.

Prints, for skies that benchmark_skies.py makes, what Snakemake takes for a plan and a dry run, what
the jobs take one after the other, and how the CPU time of the map jobs divides. The figures of the
jobs are in benchmarks/results/stages-SKY.json too, which scaling_model.py reads.

    python benchmarks/measure_stages.py survey many
    python benchmarks/measure_stages.py --no-parts survey many
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from compare import MAKE_SKY, Case, sky_called, warm_up, workflow
from library import ROOT, provenance
from read_all import read_all
from support.measuring import Usage, measure
from workflow_jobs import STAGES, apart, jobs_of, run_job

PARTS = {
    "footers": ("storage/catalog_files.py", "open_parquet"),
    "spatial index and coordinates": ("parquet/partition_file.py", "read_positions"),
    "coarse filter": ("healpix/neighbors.py", "find_candidates"),
    "exact filter": ("healpix/boundary.py", "is_within"),
    "import of Polars": ("parquet/row_selection.py", "_import_polars"),
    "wanted rows by Polars": ("parquet/row_selection.py", "_collect"),
    "wanted rows by PyArrow": ("parquet/row_selection.py", "_select_columns"),
    "writing": ("margin/shard.py", "write_rows"),
    "all": ("margin/map.py", "map_partitions"),
}


def parts_of_mapping(plan_path: Path, shard: Path) -> dict[str, float]:
    """Return the CPU seconds of the parts of all map jobs, run in this process."""
    from margin_cache.process import keep_memory, keep_pandas_out

    keep_pandas_out()
    keep_memory()
    import cProfile
    import pstats
    import time
    from importlib import import_module

    import pyarrow as pa
    from margin_cache.margin.map import map_partitions
    from margin_cache.planning.model import load_plan

    pa.set_cpu_count(1)
    plan = load_plan(plan_path)
    for file, function in PARTS.values():
        # A part that is no longer there must not be measured as none.
        module = file.removesuffix(".py").replace("/", ".")
        getattr(import_module(f"margin_cache.{module}"), function)
    profile = cProfile.Profile(time.process_time, builtins=False)
    profile.enable()
    for job in range(len(plan.map_names)):
        map_partitions(plan, job, shard)
    profile.disable()
    totals = {
        ("/".join(Path(file).parts[-2:]), function): cumulative
        for (file, _, function), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items()
    }
    # A way of taking rows is not gone where no column is of its kind.
    return {part: totals.get(key, 0.0) for part, key in PARTS.items()}


def total(usages: list[Usage]) -> str:
    """The cells of a table for jobs that ran one after the other."""
    return (
        f"{len(usages)} | {sum(usage.wall for usage in usages):.2f} "
        f"| {sum(usage.cpu for usage in usages):.2f} "
        f"| {max(usage.peak_mb for usage in usages):,.0f}"
    )


def save(case: Case, directory: Path, stages: dict[str, list[Usage]], results: Path) -> None:
    """Write what the jobs took of each stage, and what the sky and its margin are."""
    files = [file.stat().st_size for file in (directory / "margin").rglob("Npix=*.parquet")]
    shards = [file.stat().st_size for file in directory.rglob("shards/*.arrow")]
    record = {
        **case.about,
        "threshold": case.threshold,
        "files": len(files),
        "margin_mb": sum(files) / 1e6,
        "shards_mb": sum(shards) / 1e6,
        "stages": {
            stage: {
                "jobs": len(usages),
                "cpu": sum(usage.cpu for usage in usages),
                "peak_mb": max(usage.peak_mb for usage in usages),
                "read_mb": sum(usage.read_mb for usage in usages),
            }
            for stage, usages in stages.items()
        },
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / f"stages-{case.name}.json").write_text(json.dumps(record, indent=4) + "\n")


def lines(case: Case, directory: Path, results: Path) -> Iterator[str]:
    """Measure the stages of a sky; yield lines of a table in Markdown."""
    config = {
        "input_catalog_path": str(case.hats),
        "margin_threshold": case.threshold,
        "output_artifact_name": "margin",
        "output_path": str(directory),
        "delete_intermediate_parquet_files": False,
    }
    command = [*workflow(case.hats, case, directory / "margin"), "--dry-run"]
    command.insert(command.index("--config"), command.pop())
    command.append("delete_intermediate_parquet_files=false")
    stages = {
        "plan and dry run": [measure(command, directory)],
        "dry run": [measure(command, directory)],
    }
    imports = [sys.executable, "-c", "import margin_cache.margin.map"]
    variables = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "scripts")}
    stages["a script's start"] = [measure(imports, directory, **variables)]
    for stage, usages in stages.items():
        yield f"| {case.name} | {stage} | {total(usages)} |"
    warm_up(case)
    for stage in STAGES:
        jobs = apart(jobs_of, directory, config, stage)
        stages[stage] = [run_job(job, directory) for job in jobs]
        yield f"| {case.name} | {stage} | {total(stages[stage])} |"
    save(case, directory, stages, results)


def seconds_of_parts(case: Case, directory: Path) -> dict[str, float]:
    """Return the CPU seconds of the parts of the map jobs of a sky, and of a bare read."""
    warm_up(case)
    (plan,) = directory.glob("intermediate/margin/*/plan.npz")
    parts = apart(parts_of_mapping, plan, directory / "shard.arrow")
    whole = parts.pop("all")
    parts["all else"] = whole - sum(parts.values())
    return {**parts, "all": whole, "bare read": apart(read_all, case.hats)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("skies", nargs="+")
    parser.add_argument("--directory", type=Path, default=ROOT / "benchmarks" / "skies")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--no-parts", action="store_true", help="leave map jobs whole")
    arguments = parser.parse_args()
    print(provenance())
    print("| sky | | jobs | wall s | CPU s | largest MB |\n|---|---|---:|---:|---:|---:|")
    parts = {}
    for name in arguments.skies:
        subprocess.run([sys.executable, MAKE_SKY, name, arguments.directory], check=True)
        case = sky_called(name, arguments.directory, cores=1)
        directory = (arguments.directory / "stages").resolve()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for line in lines(case, directory, arguments.out):
            print(line, flush=True)
        if not arguments.no_parts:
            parts[name] = seconds_of_parts(case, directory)
        shutil.rmtree(directory)
    if parts:
        print(f"\n| CPU s of map jobs | {' | '.join(parts)} |\n|---|{'---:|' * len(parts)}")
        for part in next(iter(parts.values())):
            print(f"| {part} | {' | '.join(f'{sky[part]:.2f}' for sky in parts.values())} |")


if __name__ == "__main__":
    main()
