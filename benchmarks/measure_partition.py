"""One large partition, mapped.

Makes a catalog of one partition, of order 4, in one row group, and runs its map job. Prints wall
time, CPU time and the largest resident memory of the job; medians of some repetitions, with the
file in the system's memory.

    python benchmarks/measure_partition.py                    # 20 million rows
    python benchmarks/measure_partition.py 50 --columns 5     # of 50 million rows
    python benchmarks/measure_partition.py 50 --habit hats

Making the catalog takes somewhat more memory than its values take up.
"""

# The main process imports nothing large: the memory of a child counts from that of its parent.
import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from library import provenance
from workflow_jobs import apart, jobs_of, run_job

ORDER, PIXEL = 4, 106
"""The partition, near the centre of a base face."""

PIECE_DEPTH = 3
"""Its rows are made in pixels of an order so much finer."""

CONFIG = {"input_catalog_path": "sky", "margin_threshold": 10.0}


def make_catalog(directory: Path, rows: int, columns: int, habit: str) -> tuple[int, int]:
    """Write the catalog; return its rows and the bytes of its file.

    Rows are made and sorted piece by piece, in memory only as the columns that are written.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from support import skies
    from support.hats_options import hats_options
    from support.survey_columns import survey_columns
    from support.write_hats import INDEX_COLUMN, INDEX_ORDER, write_hats

    rng = np.random.default_rng(5)
    pieces: list[pa.Table] = []
    made = 0
    # Pixels of a finer order, one after the other, are in the order of the spatial index.
    for pixel in range(PIXEL << 2 * PIECE_DEPTH, (PIXEL + 1) << 2 * PIECE_DEPTH):
        piece = np.array([[ORDER + PIECE_DEPTH, pixel]])
        count = rows // 4**PIECE_DEPTH
        ra, dec = skies.pixel_positions(
            piece.repeat(count, 0), rng.random(count), rng.random(count)
        )
        index = skies.nested_pixels(ra, dec, INDEX_ORDER)
        kept = np.flatnonzero(index >> 2 * (INDEX_ORDER - piece[0, 0]) == pixel)  # of rounding
        kept = kept[np.argsort(index[kept], kind="stable")]
        table = pa.table(
            {INDEX_COLUMN: index[kept], "id": made + kept, "ra": ra[kept], "dec": dec[kept]}
        )
        for name, values in survey_columns(rng, len(kept), columns - 3).items():
            table = table.append_column(name, values)
        pieces.append(table)
        made += count
    table = pa.concat_tables(pieces)
    del pieces
    options = {"compression": "snappy"} if habit == "arrow" else hats_options(table.schema)
    partition = np.array([[ORDER, PIXEL]])
    # The catalog with few of the rows, the file of which is written again with all of them.
    few = table.slice(0, 1000).drop_columns(INDEX_COLUMN)
    write_hats(directory, "sky", few, partition, options=options, metadata=False)
    (file,) = directory.rglob("Npix=*.parquet")
    pq.write_table(table, file, **{**options, "row_group_size": rows})
    for properties in directory.rglob("*properties"):
        said = properties.read_text(encoding="utf-8")
        said = said.replace(f"hats_nrows={len(few)}", f"hats_nrows={len(table)}")
        properties.write_text(said, encoding="utf-8")
    return len(table), file.stat().st_size


def lines(directory: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Measure the map job; yield the lines of the table."""
    wanted = round(arguments.millions * 1e6)
    rows, size = apart(make_catalog, directory, wanted, arguments.columns, arguments.habit)
    yield (
        f"{rows:,} rows, {arguments.columns} columns, {size / 1e6:,.0f} MB, one row group, habit "
        f"of {arguments.habit}, medians of {arguments.repeat}\n\n"
        "| wall s | CPU s | peak MB |\n|---:|---:|---:|"
    )
    (job,) = apart(jobs_of, directory, CONFIG, "map_partitions")
    shard = Path(job.arguments[job.arguments.index("--shard") + 1])
    usages = []
    for _ in range(arguments.repeat + 1):
        shard.unlink(missing_ok=True)
        usages.append(run_job(job, directory))
    del usages[0]  # it has brought the file into memory
    wall, cpu, peak = (
        statistics.median(getattr(usage, figure) for usage in usages)
        for figure in ("wall", "cpu", "peak_mb")
    )
    yield f"| {wall:.2f} | {cpu:.2f} | {peak:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("millions", nargs="?", type=float, default=20.0, help="of rows")
    parser.add_argument("--columns", type=int, default=9, help="beside the spatial index")
    parser.add_argument("--habit", choices=("hats", "arrow"), default="arrow")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="to make the catalog in")
    arguments = parser.parse_args()
    if arguments.columns < 3:
        parser.error("a catalog has the columns id, ra and dec at least")
    print(provenance())
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        for line in lines(Path(directory).resolve(), arguments):
            print(line, flush=True)


if __name__ == "__main__":
    main()
