"""One large partition, mapped with few and with many threads.

Makes a catalog of one partition, of order 4, in one row group, and runs its map job
with each number of threads. Prints wall time, CPU time and the largest resident memory of the job;
medians of some repetitions, with the file in the system's memory.

    python benchmarks/measure_partition.py                    # 20 million rows, threads 1 and 4
    python benchmarks/measure_partition.py 50 --threads 1 --habit hats

Making the catalog takes several times the memory that its values take up.
"""

# The main process imports nothing large: the memory of a child counts from that of its parent.
import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from workflow_jobs import apart, jobs_of, run_job

CONFIG = {"input_catalog_path": "sky", "margin_threshold": 10.0}


def make_catalog(directory: Path, rows: int, columns: int, habit: str) -> int:
    """Write the catalog; return the bytes of its file."""
    import numpy as np
    import pyarrow as pa
    from support import skies
    from support.hats_options import hats_options
    from support.survey_columns import survey_columns
    from support.write_hats import INDEX_COLUMN, write_hats

    rng = np.random.default_rng(5)
    partition = np.array([[4, 106]])
    ra, dec = skies.pixel_positions(partition.repeat(rows, 0), rng.random(rows), rng.random(rows))
    kept = skies.inside(skies.nested_pixels(ra, dec), partition)  # rounding moves some across
    ra, dec = ra[kept], dec[kept]
    table = pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec})
    for name, values in survey_columns(rng, len(ra), columns - 3).items():
        table = table.append_column(name, values)
    options = {"compression": "snappy"}
    if habit == "hats":
        options = hats_options(table.schema.insert(0, pa.field(INDEX_COLUMN, pa.int64())))
    write_hats(directory, "sky", table, partition, options={**options, "row_group_size": rows})
    return sum(file.stat().st_size for file in directory.rglob("Npix=*.parquet"))


def lines(directory: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Measure each number of threads; yield the lines of the table."""
    rows = round(arguments.millions * 1e6)
    size = apart(make_catalog, directory, rows, arguments.columns, arguments.habit)
    yield (
        f"{rows:,} rows, {arguments.columns} columns, {size / 1e6:,.0f} MB, one row group, habit "
        f"of {arguments.habit}, medians of {arguments.repeat}\n\n"
        "| threads | wall s | CPU s | peak MB | wall, ratio |\n|---:|---:|---:|---:|---:|"
    )
    (job,) = apart(jobs_of, directory, CONFIG, "map_partitions")
    shard = Path(job.arguments[job.arguments.index("--shard") + 1])
    first = 0.0
    for threads in arguments.threads:
        threaded = replace(job, arguments=[*job.arguments, "--threads", str(threads)])
        usages = []
        for _ in range(arguments.repeat + 1):
            shard.unlink(missing_ok=True)
            usages.append(run_job(threaded, directory))
        del usages[0]  # it has brought the file into memory
        wall, cpu, peak = (
            statistics.median(getattr(usage, figure) for usage in usages)
            for figure in ("wall", "cpu", "peak_mb")
        )
        first = first or wall
        yield f"| {threads} | {wall:.2f} | {cpu:.2f} | {peak:,.0f} | {wall / first:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("millions", nargs="?", type=float, default=20.0, help="of rows")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--columns", type=int, default=9, help="beside the spatial index")
    parser.add_argument("--habit", choices=("hats", "arrow"), default="arrow")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="to make the catalog in")
    arguments = parser.parse_args()
    if arguments.columns < 3:
        parser.error("a catalog has the columns id, ra and dec at least")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        for line in lines(Path(directory).resolve(), arguments):
            print(line, flush=True)


if __name__ == "__main__":
    main()
