"""Memory and CPU time of the workflow's jobs, beside what their rules ask for.

Makes catalogs of a dozen large partitions, and runs the scripts of all jobs of their margins, one
after the other and without Snakemake. A line of the table is for all jobs of a rule: the most
memory that one of them takes, the most that is asked for, and the CPU time of all.

    python benchmarks/measure_resources.py            # takes minutes, and up to 8 GB of memory
    python benchmarks/measure_resources.py --scale 0.1
"""

# The main process imports nothing large: the memory of a child counts from that of its parent.
import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from library import provenance
from workflow_jobs import STAGES, apart, jobs_of, run_job


@dataclass(frozen=True)
class Case:
    rows: int
    columns: int
    order: int = 0  # of the partitions
    row_group_rows: int | None = None
    list_length: int = 0  # of one more column
    threshold: float = 10.0  # [arcsec]


CASES = (
    Case(1_200_000, 30),
    Case(6_000_000, 15),
    Case(1_200_000, 120),
    Case(1_200_000, 120, row_group_rows=10_000),
    Case(240_000, 30, list_length=300),
    Case(1_200_000, 30, threshold=3600.0),
    Case(1_200_000, 30, threshold=36000.0),
    Case(400_000, 30, order=4),
)


def make_sky(directory: Path, case: Case) -> None:
    """Write the catalog of a case."""
    import numpy as np
    import pyarrow as pa
    from support.sky_catalogs import survey_sky
    from support.write_hipscat import write_hipscat

    count = 12 * 4**case.order
    partitions = np.column_stack([np.full(count, case.order), np.arange(count)])
    table = survey_sky(case.rows, case.columns)
    if case.list_length:
        values = np.random.default_rng(1).normal(size=case.rows * case.list_length)
        offsets = np.arange(0, values.size + 1, case.list_length)
        curves = pa.ListArray.from_arrays(offsets.astype(np.int32), values)
        table = table.append_column("light_curve", curves)
    write_hipscat(directory, "sky", table, partitions, row_group_size=case.row_group_rows)


def configuration(case: Case) -> dict[str, object]:
    """Return the configuration of a case's margin."""
    return {
        "input_catalog_path": "sky",
        "margin_threshold": case.threshold,
        "partitions_per_job": 3 * 4**case.order,
        "delete_intermediate_parquet_files": False,
    }


def lines(case: Case, directory: Path) -> Iterator[str]:
    apart(make_sky, directory, case)
    for stage in STAGES:
        jobs = apart(jobs_of, directory, configuration(case), stage)
        measured = [run_job(job, directory) for job in jobs]
        rows = round(case.rows / 12 / 4**case.order)
        columns = f"{case.columns} + list" if case.list_length else case.columns
        yield (
            f"| {rows:,} | {min(rows, case.row_group_rows or rows):,} | {columns} "
            f"| {case.threshold:g} | {stage} | {len(jobs)} "
            f"| {max(job.read_mb for job in jobs):,.0f} "
            f"| {max(usage.peak_mb for usage in measured):,.0f} "
            f"| {max(job.asked_mb for job in jobs):,} "
            f"| {sum(usage.cpu for usage in measured):.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the numbers of rows")
    parser.add_argument("--cases", type=int, help="only so many catalogs")
    parser.add_argument("--directory", type=Path, help="to make the catalogs in")
    arguments = parser.parse_args()
    print(provenance())
    print(
        "| rows of a partition | of a row group | columns | threshold [arcsec] | rule | jobs "
        "| MB read by a job | peak MB | MB requested | CPU s of all jobs |"
    )
    print("|" + 4 * "---:|" + "---|" + 5 * "---:|")
    for case in CASES[: arguments.cases]:
        scaled = replace(case, rows=round(case.rows * arguments.scale))
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            for line in lines(scaled, Path(directory)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
