"""Where the time goes: start-up, the jobs of each rule, and the parts of a map job.

Prints, for skies that benchmark_skies.py makes, what Snakemake takes for a plan and a dry run, what
the jobs take one after the other, and how the CPU time of the map jobs divides.

    python benchmarks/measure_stages.py survey many
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from compare import MAKE_SKY, Case, sky_called, warm_up, workflow
from library import ROOT
from read_all import read_all
from support.measuring import Usage, measure
from workflow_jobs import STAGES, apart, jobs_of, run_job

PARTS = {
    "footers": ("storage/parquet_file.py", "open_parquet"),
    "spatial index and coordinates": ("parquet/positions.py", "read_positions"),
    "coarse filter": ("healpix/margin_filter.py", "find_candidates"),
    "exact filter": ("healpix/boundary.py", "is_within"),
    "import of Polars": ("parquet/polars_rows.py", "_import_polars"),
    "wanted rows by Polars": ("parquet/polars_rows.py", "_collect"),
    "wanted rows by PyArrow": ("parquet/row_selection.py", "_select_columns"),
    "writing": ("stages/shard.py", "write_rows"),
    "all": ("stages/map.py", "map_partitions"),
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
    from margin_cache.planning.model import load_plan
    from margin_cache.stages.map import map_partitions

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


def lines(case: Case, directory: Path) -> Iterator[str]:
    """Measure a sky; yield two tables in Markdown, line by line."""
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
    yield f"| {case.name} | jobs | wall s | CPU s | largest MB |"
    yield "|---|---:|---:|---:|---:|"
    yield f"| plan and dry run | {total([measure(command, directory)])} |"
    yield f"| dry run | {total([measure(command, directory)])} |"
    script = [sys.executable, ROOT / "scripts" / "map_partitions.py", "--help"]
    yield f"| a script's start | {total([measure(script, directory, OPENBLAS_NUM_THREADS='1')])} |"
    warm_up(case)
    for stage in STAGES:
        jobs = apart(jobs_of, directory, config, stage)
        yield f"| {stage} | {total([run_job(job, directory) for job in jobs])} |"
    warm_up(case)
    (plan,) = directory.glob("intermediate/margin/*/plan.npz")
    parts = apart(parts_of_mapping, plan, directory / "shard.arrow")
    whole = parts.pop("all")
    parts["all else"] = whole - sum(parts.values())
    yield ""
    yield f"| map jobs of {case.name}, in one process | CPU s | share |"
    yield "|---|---:|---:|"
    rows = {**parts, "all": whole, "bare read": apart(read_all, case.hats)}
    for part, seconds in rows.items():
        yield f"| {part} | {seconds:.2f} | {seconds / whole:.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("skies", nargs="+")
    parser.add_argument("--directory", type=Path, default=ROOT / "benchmarks" / "skies")
    arguments = parser.parse_args()
    for name in arguments.skies:
        subprocess.run([sys.executable, MAKE_SKY, name, arguments.directory], check=True)
        case = sky_called(name, arguments.directory, cores=1)
        directory = (arguments.directory / "stages").resolve()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for line in lines(case, directory):
            print(line, flush=True)
        print(flush=True)
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
