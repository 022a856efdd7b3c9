"""What the processor is at while partitions are mapped, by samples of perf.

Prints, for skies that benchmark_skies.py makes, which share of the time of all map jobs, run one
after the other, is spent in which library and in decompression. Needs perf, which Debian has as
linux-perf.

    python benchmarks/profile_map.py large wide
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from compare import MAKE_SKY, sky_called, warm_up
from library import ROOT, provenance
from workflow_jobs import apart, jobs_of

_SAMPLE = re.compile(r"\s*[0-9a-f]+ (.*) \((.*)\)$")
"""A line of ``perf script``: address, symbol and library."""

_POLARS = "_polars_runtime"

GROUPS = {
    "decompression": "ZSTD|HUF_|FSE_|XXH|snap::|snappy|compression::decompress",
    "Polars, but for that": _POLARS,
    "PyArrow": "libarrow|libparquet|pyarrow",
    "NumPy and hpgeom": r"numpy|_multiarray|hpgeom|libm\.",
    "the system: reading files, memory, starting processes": "kernel",
    "Python: starting, importing, this library": "python",
}
"""Where a sample belongs: to the first of these that library and symbol match."""


def group_of(symbol: str, library: str) -> str:
    """Return where a sample belongs."""
    if symbol == "[unknown]" and _POLARS in library:
        # Its only functions without names are the Huffman decoder of zstd, in assembler.
        return "decompression"
    place = f"{library} {symbol}"
    return next((group for group, words in GROUPS.items() if re.search(words, place)), "all else")


def samples_of(sky: str, skies: Path, directory: Path) -> Counter[str]:
    """Run the map jobs of a sky under perf; return the samples by where they belong."""
    subprocess.run([sys.executable, MAKE_SKY, sky, skies], check=True, stdout=subprocess.DEVNULL)
    case = sky_called(sky, skies, cores=1)
    config = {
        "input_catalog_path": str(case.hats),
        "margin_threshold": case.threshold,
        "output_artifact_name": "margin",
        "output_path": str(directory),
    }
    jobs = apart(jobs_of, directory, config, "map_partitions")
    warm_up(case)
    found: Counter[str] = Counter()
    record = directory / "perf.data"
    for job in jobs:
        script = [sys.executable, ROOT / "scripts" / "map_partitions.py", *job.arguments]
        subprocess.run(
            ["perf", "record", "-e", "cpu-clock", "-F", "2000", "-o", record, *script],
            check=True,
            cwd=directory,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
        )
        listed = subprocess.run(
            ["perf", "script", "-i", record, "-F", "ip,sym,dso"],
            check=True,
            capture_output=True,
            text=True,
        )
        found.update(
            group_of(match[1], match[2])
            for match in map(_SAMPLE.match, listed.stdout.splitlines())
            if match
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("skies", nargs="+")
    parser.add_argument("--directory", type=Path, default=ROOT / "benchmarks" / "skies")
    arguments = parser.parse_args()
    if shutil.which("perf") is None:
        parser.error("perf is not installed; Debian has it as linux-perf")
    shares = {}
    for sky in arguments.skies:
        directory = (arguments.directory / "profile").resolve()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        found = samples_of(sky, arguments.directory, directory)
        shares[sky] = {group: found[group] / found.total() for group in [*GROUPS, "all else"]}
        shutil.rmtree(directory)
    print(provenance())
    print("| time of map jobs | " + " | ".join(shares) + " |")
    print("|---|" + "---:|" * len(shares))
    for group in [*GROUPS, "all else"]:
        print(f"| {group} | " + " | ".join(f"{each[group]:.0%}" for each in shares.values()) + " |")


if __name__ == "__main__":
    main()
