"""Sizes and encodings of margin files beside those that hats-import writes of the same rows.

Makes the margin of a sky of the benchmark twice, with this workflow without its fine filter and
with hats-import; then both have the same rows in the same files, which is checked. Prints the bytes
of all files, and of a column in all files together with its encodings, where they differ.

    python benchmarks/measure_sizes.py small
"""

import argparse
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compare import MAKE_SKY, hats_import, sky_called, workflow
from library import ROOT, provenance
from support.measuring import measure


@dataclass
class Column:
    """A column in all files of a margin: its bytes, codecs and encodings."""

    size: int = 0
    written: set[str] = field(default_factory=set)


def sizes_of(margin: Path) -> dict[str, int]:
    """The bytes of each file of a margin."""
    files = margin.rglob("Npix=*.parquet")
    return {file.relative_to(margin).as_posix(): file.stat().st_size for file in files}


def columns_of(margin: Path) -> dict[str, Column]:
    """The columns of a margin, from the footers of its files."""
    import pyarrow.parquet as pq

    columns: dict[str, Column] = defaultdict(Column)
    for file in margin.rglob("Npix=*.parquet"):
        footer = pq.read_metadata(file)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            for chunk in map(group.column, range(group.num_columns)):
                column = columns[chunk.path_in_schema]
                column.size += chunk.total_compressed_size
                column.written |= {chunk.compression, *chunk.encodings}
    return columns


def check_same_rows(ours: Path, theirs: Path) -> int:
    """End with a message unless both margins have the same rows; return their number."""
    from support.benchmark_skies import rows_of_margin

    rows = [rows_of_margin(margin) for margin in (ours, theirs)]
    if rows[0].tolist() != rows[1].tolist():
        sys.exit(f"{ours} has {len(rows[0])} rows, {theirs} {len(rows[1])}, or others")
    return len(rows[0])


def report(ours: Path, theirs: Path) -> str:
    """The sizes of two margins of the same rows, as tables in Markdown."""
    rows = check_same_rows(ours, theirs)
    totals = [sizes_of(margin) for margin in (ours, theirs)]
    ratios = sorted(totals[0][file] / totals[1][file] for file in totals[0])
    sums = [sum(total.values()) for total in totals]
    lines = [
        f"{rows:,} rows in {len(ratios):,} files: {sums[0]:,} bytes beside {sums[1]:,}, ratio "
        f"{sums[0] / sums[1]:.3f}; of single files {ratios[0]:.3f} to {ratios[-1]:.3f}",
        "",
        "| column | bytes, this workflow | hats-import | this workflow | hats-import |",
        "|---|---:|---:|---|---|",
    ]
    columns: list[Mapping[str, Column]] = [columns_of(margin) for margin in (ours, theirs)]
    for name in columns[1]:
        pair = [each[name] for each in columns]
        written = [" ".join(sorted(column.written)) for column in pair]
        sizes = " | ".join(f"{column.size:,}" for column in pair)
        told = " | ".join(written) if written[0] != written[1] else f"{written[0]} | the same"
        lines.append(f"| {name} | {sizes} | {told} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sky", help="as benchmarks/benchmark_skies.py makes it")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--directory", type=Path, default=ROOT / "benchmarks" / "skies")
    arguments = parser.parse_args()
    subprocess.run([sys.executable, MAKE_SKY, arguments.sky, arguments.directory], check=True)
    case = sky_called(arguments.sky, arguments.directory, arguments.cores)
    place = case.directory / "sizes"
    shutil.rmtree(place, ignore_errors=True)
    ours, theirs = place / "ours" / "margin", place / "theirs" / "margin"
    commands = (
        (ours, [*workflow(case.hats, case, ours), "fine_filtering=false"]),
        (theirs, hats_import(case, theirs)),
    )
    for margin, command in commands:
        margin.parent.mkdir(parents=True)
        measure(command, margin.parent)
    print(provenance())
    print(f"{case.name}, {case.threshold:g} arcsec: {report(ours, theirs)}")
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
