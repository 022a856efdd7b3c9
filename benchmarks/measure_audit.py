"""What the audit of a margin costs beside making it, on the survey's sky of 2 million rows.

Makes the sky if it is not there, its margin, the audit of that, the same audit again, of which the
jobs are done, and the audit of a sample of a tenth. Prints a table in Markdown.

    python benchmarks/measure_audit.py --cores 2 DIRECTORY
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from library import ROOT, provenance
from support.measuring import Usage, measure

THRESHOLD = 10
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
RUNS = {
    "making the margin": ([], []),
    "audit": (["audit"], []),
    "audit, its jobs done": (["audit"], []),
    "audit of a tenth": (["audit"], ["audit_fraction=0.1"]),
}


def run(targets: list[str], keys: list[str], sky: Path, cores: int, directory: Path) -> Usage:
    """Measure a run of the workflow."""
    command = [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--directory", directory, *targets]
    command += ["--cores", str(cores), "--config", f"input_catalog_path={sky}"]
    return measure([*command, f"margin_threshold={THRESHOLD}", *keys], directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="where the sky and the margin are made")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2_000_000)
    arguments = parser.parse_args()
    sky, work = arguments.directory.resolve() / "survey", arguments.directory.resolve() / "work"
    if not (sky / "catalog_info.json").exists():
        command = [sys.executable, ROOT / "benchmarks/skies.py", "survey", sky.parent]
        subprocess.run([*map(str, command), "--rows", str(arguments.rows)], check=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(provenance())
    print(
        "| | wall s | CPU s | ratio | largest process, MB |", "|---|---:|---:|---:|---:|", sep="\n"
    )
    base = 0.0
    for name, (targets, keys) in RUNS.items():
        used = run(targets, keys, sky, arguments.cores, work)
        base = base or used.cpu
        ratio = used.cpu / base
        print(
            f"| {name} | {used.wall:.0f} | {used.cpu:.1f} | {ratio:.1f} | {used.peak_mb:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
