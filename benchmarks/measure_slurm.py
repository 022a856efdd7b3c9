"""What jobs on a SLURM cluster cost: the CPU time of starting them, and that of their work.

Makes the margin of a sky of 48 partitions on the cluster that this machine submits to, with 1 and
16 partitions a job and with as many as `auto` takes. Each Python process of the run notes its CPU
time when it ends. With the cluster that the tests use:

    export SLURMLAB_DIR=/tmp/slurm-test-cluster
    tests/slurm/slurm-cluster.sh start
    eval "$(tests/slurm/slurm-cluster.sh env)"
    python benchmarks/measure_slurm.py slurm_account=lab slurm_partition=main
    tests/slurm/slurm-cluster.sh destroy
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from library import ROOT, provenance
from support.sky_catalogs import survey_sky
from support.write_hipscat import write_hipscat

ROWS, COLUMNS = 1_000_000, 30
GROUPINGS = ("1", "16", "auto")
SCRIPTS = ("map_partitions.py", "reduce_margins.py", "finish_margin.py")

# Run by Python as it starts; sys.argv is not yet there.
NOTE = """
import atexit, os, sys

SCRIPTS = {scripts!r}

def note():
    # With that of the programs it has called, the script of the job among them.
    cpu = sum(os.times()[:4])
    with open(os.environ["CPU_NOTES"], "a") as file:
        file.write(f"{{os.path.basename(sys.argv[0])}} {{'remote' in sys.argv}} {{cpu}}\\n")

def note_and_exit(code):
    # The scripts of jobs end so; Snakemake's forks do too, but count as children.
    if os.path.basename(sys.argv[0]) in SCRIPTS:
        note()
    exit_at_once(code)

atexit.register(note)
exit_at_once, os._exit = os._exit, note_and_exit
"""


def make_margin(directory: Path, grouping: str, resources: list[str]) -> str:
    """Make the margin, and return a line of the table."""
    notes = directory / f"{grouping}.txt"
    environment = {**os.environ, "PYTHONPATH": str(directory), "CPU_NOTES": str(notes)}
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile"]
    command += ["--directory", directory / grouping, "--workflow-profile", ROOT / "profiles/slurm"]
    command += ["--slurm-init-seconds-before-status-checks", "2", "--default-resources", *resources]
    command += ["--config", f"input_catalog_path={directory / 'sky'}"]
    command += [f"partitions_per_job={grouping}", "margin_threshold=10"]
    start = time.monotonic()
    subprocess.run([str(part) for part in command], env=environment, check=True)
    seconds = time.monotonic() - start
    noted = [line.split() for line in notes.read_text().splitlines()]
    cpu = {name: sum(float(c) for n, _, c in noted if n == name) for name in SCRIPTS}
    # finish_margin runs beside the main process; the other jobs are started by two Snakemakes each.
    on_cluster = cpu["map_partitions.py"] + cpu["reduce_margins.py"]
    starting = sum(float(c) for _, remote, c in noted if remote == "True") - on_cluster
    jobs = sum(name in SCRIPTS for name, _, _ in noted) - 1
    return (
        f"| {grouping} | {jobs} | {starting:.0f} | {starting / jobs:.1f} "
        f"| {sum(cpu.values()):.1f} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("resources", nargs="+", help="for snakemake's --default-resources")
    parser.add_argument("--order", type=int, default=1, help="of the partitions of the whole sky")
    parser.add_argument("--groupings", nargs="+", choices=GROUPINGS, default=GROUPINGS)
    arguments = parser.parse_args()
    count = 12 * 4**arguments.order
    partitions = np.column_stack([np.full(count, arguments.order), np.arange(count)])
    directory = Path(tempfile.mkdtemp())
    try:
        write_hipscat(directory, "sky", survey_sky(ROWS, COLUMNS), partitions)
        (directory / "sitecustomize.py").write_text(NOTE.format(scripts=SCRIPTS))
        lines = [
            make_margin(directory, grouping, arguments.resources)
            for grouping in arguments.groupings
        ]
    finally:
        shutil.rmtree(directory)
    print(provenance())
    print(
        "| partitions_per_job | jobs | CPU s of start-up | of one job | CPU s of work | seconds |"
    )
    print("|" + 6 * "---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
