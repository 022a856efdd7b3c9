"""Planning, dry run and finishing of margins of very many partitions.

The catalogs are lists of partitions that look like 300 MB each and take up nothing: the files have
holes. What the reduce jobs would leave behind is made up, with a small file for each pixel.

    python benchmarks/measure_scale.py                     # minutes, and some GB of disk
    python benchmarks/measure_scale.py 2352 10000
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from library import ROOT, provenance
from support.measuring import Usage, measure
from workflow_jobs import apart, jobs_of

PARTITION_BYTES = 300_000_000
MOST_LINKS = 30_000  # to one file; file systems have limits
# A small threshold, so that any disk has room for the margin that is forecast.
CONFIG = {"input_catalog_path": "sky", "output_artifact_name": "margin", "margin_threshold": 0.05}


def make_catalog(directory: Path, count: int) -> None:
    """Write a catalog of so many partitions or two less, of two orders, all around the sky."""
    import numpy as np
    from margin_cache.parquet.primary_options import MOST_FILES
    from support import skies
    from support.sky_catalogs import survey_sky
    from support.write_hipscat import pixel_file, write_hipscat

    order = ((count // 12).bit_length() - 1) // 2
    coarse = 12 * 4**order
    split = np.random.default_rng(0).choice(coarse, (count - coarse) // 3, replace=False)
    finer = (4 * split[:, None] + np.arange(4)).ravel()
    whole = np.setdiff1d(np.arange(coarse), split)
    orders = np.repeat([order, order + 1], [len(whole), len(finer)])
    pixels = np.concatenate([whole, finer])
    partitions = skies.nested_sort(np.column_stack([orders, pixels]))
    # As many as planning reads the footers of.
    first = partitions[:MOST_FILES]
    rows = 9 * len(first)
    ra, dec = skies.pixel_positions(first.repeat(9, 0), np.full(rows, 0.5), np.full(rows, 0.5))
    table = survey_sky(rows, 31).drop_columns(["ra", "dec"])
    table = table.add_column(1, "ra", [ra]).add_column(2, "dec", [dec])
    write_hipscat(directory, "sky", table, first)
    sky = directory / "sky"
    (sky / "_metadata").unlink()
    # Without the list, planning would count the rows of all files.
    lines = [f"{depth},{pixel},{pixel // 10000 * 10000}\n" for depth, pixel in partitions.tolist()]
    (sky / "partition_info.csv").write_text("Norder,Npix,Dir\n" + "".join(lines))
    for depth, pixel in partitions[len(first) :].tolist():
        path = sky / pixel_file(depth, pixel)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(PARTITION_BYTES - 4)
            file.seek(0, os.SEEK_END)
            file.write(b"PAR1")


def make_reduced(directory: Path) -> tuple[int, int]:
    """Make what all reduce jobs would leave behind; return the numbers of jobs and of pixels."""
    os.chdir(directory)
    import pyarrow as pa
    import pyarrow.parquet as pq
    from margin_cache.catalog.formats import format_of
    from margin_cache.config.validation import settings_of_margins
    from margin_cache.margin.model import save_margin
    from margin_cache.margin.prepare import prepare_margins
    from margin_cache.margin.reduce import write_receipt
    from margin_cache.storage.files import content_digest

    (margin,) = prepare_margins(settings_of_margins(CONFIG))
    save_margin(margin)
    plan = margin.plan
    info = plan.parameters.catalog
    schema = format_of(info).margin_schema(plan.schema, info.path)
    one = pa.Table.from_pylist([{}], schema)
    for job, name in enumerate(plan.reduce_names):
        files, footers = {}, []
        for destination in range(*plan.reduce_bounds[job : job + 2]):
            path = margin.files.staging_dir / plan.margin_path(destination)
            if destination % MOST_LINKS == 0:
                source = directory / f"margin-{destination}.parquet"
                pq.write_table(one, source)
                entry = (1, source.stat().st_size, content_digest(source.read_bytes()))
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, path)
            files[plan.margin_path(destination)] = entry
            footers.append(pq.read_metadata(source))
            footers[-1].set_file_path(info.footer_path(plan.margin_path(destination)))
        margin.files.receipt(name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_metadata(schema, margin.files.footers(name), metadata_collector=footers)
        write_receipt(margin.files.receipt(name), margin.files.footers(name), files)
    return len(plan.map_names) + len(plan.reduce_names), len(plan.destination_orders)


def cells(usage: Usage) -> str:
    return f"{usage.wall:.1f} | {usage.cpu:.1f} | {usage.peak_mb:,.0f}"


def line(count: int, directory: Path) -> str:
    """Measure a catalog of so many partitions; return a line of the table."""
    apart(make_catalog, directory, count)
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, "-s", ROOT / "Snakefile", "--cores", "1", "--dry-run", "--quiet", "all"]
    command += ["--config", *(f"{key}={value}" for key, value in CONFIG.items())]
    first, second = measure(command, directory), measure(command, directory)
    jobs, pixels = apart(make_reduced, directory)
    (finish,) = apart(jobs_of, directory, CONFIG, "finish_margin")
    script = [sys.executable, ROOT / "scripts" / "finish_margin.py", *finish.arguments]
    finished = measure(script, directory)
    return (
        f"| {count:,} | {jobs:,} | {cells(first)} | {cells(second)} | {pixels:,} "
        f"| {cells(finished)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "counts",
        nargs="*",
        type=int,
        default=[2352, 10_000, 70_000, 200_000],
        help="numbers of partitions, 12 at least; the next lower multiple of three is made",
    )
    parser.add_argument("--directory", type=Path, help="to make the catalogs in")
    arguments = parser.parse_args()
    if min(arguments.counts) < 12:
        parser.error("a catalog of the whole sky has 12 partitions at least")
    print(provenance())
    print(
        "| partitions | map and reduce jobs | plan and dry run: wall s | CPU s | MB "
        "| dry run: wall s | CPU s | MB | files | finishing: wall s | CPU s | MB |"
    )
    print("|" + 12 * "---:|")
    for count in arguments.counts:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            print(line(count, Path(directory).resolve()), flush=True)


if __name__ == "__main__":
    main()
