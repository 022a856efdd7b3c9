"""The jobs of a run in SLURM's queue: those that wait for ever, and the end of all."""

import getpass
import subprocess

_HOPELESS = {
    "AccountNotAllowed",
    "AssocMaxCpuMinutesPerJobLimit",
    "AssocMaxCpuPerJobLimit",
    "AssocMaxMemPerJob",
    "AssocMaxNodePerJobLimit",
    "AssocMaxWallDurationPerJobLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "MaxMemPerLimit",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSMaxCpuMinutesPerJobLimit",
    "QOSMaxCpuPerJobLimit",
    "QOSMaxMemoryPerJob",
    "QOSMaxNodePerJobLimit",
    "QOSMaxWallDurationPerJobLimit",
    "QOSNotAllowed",
}
"""Reasons for which a job waits that no waiting changes."""

_TIMEOUT = 60  # for an answer of SLURM [s]


def parse_hopeless(listed: str) -> dict[str, str]:
    """Return the reasons of jobs that wait for ever, by the jobs' ids.

    Args:
        listed: id and reason of the jobs that wait, a job a line, separated by ``|``.
    """
    pairs = (line.split("|", 1) for line in listed.splitlines() if "|" in line)
    return {job: reason for job, reason in pairs if reason in _HOPELESS}


def hopeless_jobs(run: str) -> dict[str, str]:
    """Return the reasons of those jobs of a run that wait for ever, by the jobs' ids."""
    command = [*("squeue", "--me", "--noheader", "--states=PENDING"), f"--name={run}"]
    try:
        listed = subprocess.run(
            [*command, "--format=%i|%r"],
            check=True,
            capture_output=True,
            encoding="utf-8",
            timeout=_TIMEOUT,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}  # the next look may tell
    return parse_hopeless(listed)


def cancel(*what: str) -> None:
    """Have SLURM cancel jobs, given by their ids or as arguments of scancel."""
    try:
        subprocess.run(["scancel", *what], check=False, capture_output=True, timeout=_TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"warning: scancel {' '.join(what)}: {error}", flush=True)


def cancel_run(run: str) -> None:
    """Cancel all jobs of a run; those that it has submitted while it was stopped are among them."""
    cancel(f"--user={getpass.getuser()}", f"--name={run}")
