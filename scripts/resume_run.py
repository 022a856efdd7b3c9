"""Go on with a run whose main process was killed.

    python scripts/resume_run.py ARGUMENTS

ARGUMENTS are those that snakemake was given. Jobs of that run that are still in the queue of a
SLURM cluster are cancelled, since Snakemake would not know them again and start them twice; the
lock is released; then snakemake runs with ARGUMENTS. What is finished stays.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from margin_cache.run.slurm import queued_jobs

TIME_LIMIT = 600  # for cancelled jobs to end [s]


def main() -> None:
    """Do what the command line says; does not return."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--from-elsewhere] ARGUMENTS",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from-elsewhere",
        action="store_true",
        help="the run was started on another machine, and is not running there any more",
    )
    parser.add_argument("-d", "--directory", default=".", help=argparse.SUPPRESS)
    known, _ = parser.parse_known_args()
    arguments = [argument for argument in sys.argv[1:] if argument != "--from-elsewhere"]
    state = Path(known.directory, ".snakemake").resolve()
    locked = any(state.glob("locks/*.lock"))
    jobs = jobs_in_queue(state / "slurm_logs")
    if locked or jobs:
        check_dead(state / "log", known.from_elsewhere)
    if jobs:
        cancel(jobs, state / "slurm_logs")
    snakemake = [sys.executable, "-m", "snakemake"]
    if locked:
        subprocess.run([*snakemake, "--unlock", *arguments], check=True)
    os.execv(sys.executable, [*snakemake, *arguments])


def jobs_in_queue(logs: Path) -> list[str]:
    """Return the ids of the user's SLURM jobs that write their logs below a directory."""
    if not logs.exists():
        return []
    try:
        return list(queued_jobs(logs))
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"error: the run was on a SLURM cluster, whose queue cannot be seen: {error}")


def check_dead(logs: Path, from_elsewhere: bool) -> None:
    """End this process if the run is alive, or started where that cannot be seen."""
    if process := next(processes_writing_to(logs), None):
        sys.exit(f"error: the run is alive, as process {process}; stop that one first")
    newest = max(logs.glob("*.snakemake.log"), default=None)
    if newest is None or from_elsewhere:
        return
    host = re.search(r"^ *Host: (\S+)$", newest.read_text(errors="replace"), re.MULTILINE)
    if host and host[1] != platform.node():
        sys.exit(
            f"error: the run was started on {host[1]}, and may be alive there; resume it from "
            "there, or make sure that it is not, and add --from-elsewhere"
        )


def processes_writing_to(directory: Path) -> Iterator[int]:
    """Yield the ids of the processes, as far as they can be seen, with an open file in a place."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink().parent == directory:
                yield int(link.parts[2])
        except OSError:
            continue


def cancel(jobs: list[str], logs: Path) -> None:
    """Cancel jobs, and wait until they have left the queue."""
    print(f"cancelling {len(jobs)} jobs that are left in the queue", file=sys.stderr)
    subprocess.run(["scancel", *jobs], check=True)
    end = time.monotonic() + TIME_LIMIT
    while jobs := jobs_in_queue(logs):
        if time.monotonic() > end:
            sys.exit(f"error: these jobs were cancelled, and are still there: {' '.join(jobs)}")
        time.sleep(1)


if __name__ == "__main__":
    main()
