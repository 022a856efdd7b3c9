"""Why a job failed, in one line: from its logs and from the executor's message."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_MAX_BYTES = 1 << 16  # read from the end of a log
_MAX_LENGTH = 500  # of a line

_REFUSAL = re.compile(
    r"sbatch failed\. The error message was '(.*?)'\.\s*(?:\n|$)"
    r"|Job submission failed with exception: (.*?)(?:For further error details|$)",
    re.DOTALL,
)
_STATE = re.compile(r"SLURM status is: +'?(\w+)")
_MEMORY = re.compile(
    r"oom.?kill|out.of.memory|exceeded (job|step)? ?memory|memory limit|MemoryError", re.IGNORECASE
)
_TIME = re.compile(r"due to time limit", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """A job of a run.

    Attributes:
        rule: name of its rule, with the prefix that a module gives it.
        logs: its log files: that of its script first, then that of SLURM.
        message: what the executor says about its failure; may be empty.
        memory_mb: requested memory in MB; 0 if unknown.
        minutes: requested run time in minutes; 0 if unknown.
    """

    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    message: str = ""
    memory_mb: float = 0
    minutes: float = 0
    output: tuple[str, ...] = ()


def refusal(message: str) -> str:
    """Return why SLURM did not accept a job; empty if it did."""
    match = _REFUSAL.search(message)
    return " ".join((match[1] or match[2]).split()) if match else ""


def state(message: str) -> str:
    """Return the final SLURM state of a job, for example TIMEOUT; empty if the message has none."""
    match = _STATE.search(message)
    return match[1] if match else ""


def cause(job: Job) -> str:
    """Return one line, ``error: ...``, that says why a job failed; empty if nothing is known."""
    rule, message = job.rule, job.message
    logs = [last_lines(log) for log in dict.fromkeys(job.logs)]
    lines = [line for log in logs for line in log]
    if errors := [line for line in lines if line.startswith("error: ")]:
        return errors[-1]
    if reason := refusal(message):
        return f"error: {rule}: SLURM refused the job: {reason}"
    slurm_state = state(message)
    if slurm_state == "OUT_OF_MEMORY" or any(map(_MEMORY.search, lines)):
        requested = f" ({job.memory_mb:.0f} MB requested)" if job.memory_mb else ""
        return (
            f"error: {rule}: the job ran out of memory{requested}. Use "
            f"--set-resources {rule}:mem_mb={2 * job.memory_mb or 8000:.0f} to request more."
        )
    if slurm_state in ("TIMEOUT", "DEADLINE") or any(map(_TIME.search, lines)):
        requested = f" ({job.minutes:.0f} minutes requested)" if job.minutes else ""
        return (
            f"error: {rule}: the job ran out of time{requested}. Use "
            f"--set-resources {rule}:runtime={2 * job.minutes or 60:.0f} to request more, or make "
            "jobs smaller with job_size_mb."
        )
    if slurm_state in ("NODE_FAIL", "BOOT_FAIL"):
        return f"error: {rule}: the node of the job failed"
    if slurm_state == "CANCELLED":
        return f"error: {rule}: the job was cancelled, by scancel or by the cluster"
    if "MissingOutputException" in message:
        return (
            f"error: {rule}: the job succeeded, but its output files are not visible here. The "
            "catalog, output_path, tmp_dir and the working directory must be on a file system "
            "that all nodes share. If it is slow, use a longer --latency-wait."
        )
    if lines:
        return f"error: {rule}: the job failed; last line of its log: {lines[-1]}"
    if slurm_state:
        return (
            f"error: {rule}: the job failed ({slurm_state}) and wrote no log. Check that the nodes "
            f"see the working directory {Path.cwd()} and the Python that started this run."
        )
    reason = " ".join(message.partition("For further error details")[0].split())
    return f"error: {rule}: the job failed: {reason[:_MAX_LENGTH]}" if reason else ""


def causes(jobs: Iterable[Job]) -> list[str]:
    """Return each known cause once, with the number of its jobs if there are several."""
    counts = Counter(filter(None, map(cause, jobs)))
    return [f"{line} ({count} jobs)" if count > 1 else line for line, count in counts.items()]


def last_lines(log: str) -> list[str]:
    """Return the last lines of a log, without the blank ones; none if the file is missing."""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(file.seek(0, 2) - _MAX_BYTES, 0))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line[:_MAX_LENGTH] for line in lines if line.strip()]
