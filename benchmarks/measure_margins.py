"""Time and memory of several margins of one catalog in one run, beside the widest of them alone.

Runs with 1, 3 and 8 margins of a sky of the benchmark take turns; the table has the medians.

    python benchmarks/measure_margins.py survey
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

from compare import MAKE_SKY, sky_called
from library import ROOT, provenance
from support.measuring import Usage, measure
from support.peer_environments import users_python

THRESHOLDS = (30.0, 10.0, 5.0, 25.0, 20.0, 15.0, 7.5, 2.5)
NUMBERS = (1, 3, 8)


def make_margins(catalog: Path, number: int, cores: int, place: Path) -> Usage:
    """Make the first of the margins in one run, and measure it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    margins = [{"margin_threshold": threshold} for threshold in THRESHOLDS[:number]]
    # JSON is YAML too.
    (place / "margins.json").write_text(
        json.dumps({"input_catalog_path": str(catalog), "margins": margins})
    )
    snakemake = users_python().with_name("snakemake")
    options = ("--directory", place, "--cores", str(cores), "--configfile", "margins.json")
    return measure([snakemake, "--snakefile", ROOT / "Snakefile", *options], place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sky", help="as benchmarks/benchmark_skies.py makes it")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=ROOT / "benchmarks" / "skies")
    arguments = parser.parse_args()
    subprocess.run([sys.executable, MAKE_SKY, arguments.sky, arguments.directory], check=True)
    case = sky_called(arguments.sky, arguments.directory, arguments.cores)
    place = case.directory / "margins"
    taken: dict[int, list[Usage]] = {number: [] for number in NUMBERS}
    for _ in range(arguments.repeat):
        for number in NUMBERS:
            taken[number].append(make_margins(case.hats, number, case.cores, place))
    shutil.rmtree(place)
    print(provenance())
    print("| margins, arcsec | wall s | ratio | CPU s | ratio | largest process, MB |")
    print("|---|---:|---:|---:|---:|---:|")
    alone = taken[1]
    for number, usages in taken.items():
        wall, cpu = (median(getattr(u, name) for u in usages) for name in ("wall", "cpu"))
        wall_ratio, cpu_ratio = (
            median(getattr(u, name) / getattr(a, name) for u, a in zip(usages, alone, strict=True))
            for name in ("wall", "cpu")
        )
        names = ", ".join(f"{threshold:g}" for threshold in THRESHOLDS[:number])
        peak = max(usage.peak_mb for usage in usages)
        times = f"{wall:.1f} | {wall_ratio:.2f} | {cpu:.1f} | {cpu_ratio:.2f}"
        print(f"| {names} | {times} | {peak:.0f} |")


if __name__ == "__main__":
    main()
