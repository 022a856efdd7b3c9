"""What an attempt of a job says of its failure: the cause, and whether another may succeed."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from margin_cache.errors import FINAL

_MAX_BYTES = 1 << 16  # of the end of a log
_MAX_LENGTH = 500  # of a line
_TEMPORARY = re.compile(
    r"socket timed out|unable to contact|temporar|connection refused|communication|try again|"
    r"transport endpoint|zero bytes",
    re.IGNORECASE,
)
"""What SLURM says if it cannot take a job just now."""

_REFUSAL = re.compile(
    r"sbatch failed\. The error message was '(.*?)'\.\s*(?:\n|$)"
    r"|Job submission failed with exception: (.*?)(?:For further error details|$)",
    re.DOTALL,
)

_MEMORY = re.compile(
    r"oom.?kill|out.of.memory|exceeded (job|step)? ?memory|memory limit|MemoryError", re.IGNORECASE
)
_TIME = re.compile(r"due to time limit", re.IGNORECASE)
_NEVER = "SLURM would never start a job"

NOT_VISIBLE = "is not visible on"
"""What a job says of a path that its machine lacks."""


def refusal(message: str) -> str:
    """Return what was said when a job could not be handed to SLURM; empty if it was.

    Args:
        message: what the executor says of a failure.
    """
    found = _REFUSAL.search(message)
    return " ".join((found[1] or found[2]).split()) if found else ""


def never(reason: str) -> str:
    """Return a message about a job that SLURM would not start, however long it waits."""
    return f"{_NEVER} ({reason})"


def state(message: str) -> str:
    """Return the state in which SLURM says that a job ended; empty if it says none."""
    found = re.search(r"SLURM status is: +'?(\w+)", message)
    return found[1] if found else ""


def is_final(message: str, logs: Iterable[str], has_come_back: bool) -> bool:
    """Tell whether another attempt of a job would only find the same.

    A path that a machine does not see may be seen by the next one, if others have seen it.

    Args:
        message: what the executor says of the failure.
        logs: the logs of the job.
        has_come_back: whether another job of the run has succeeded on the cluster.
    """
    if words := refusal(message):
        return not _TEMPORARY.search(words)
    lines = [line for log in logs for line in last_lines(log)]
    if FINAL in lines:
        return True
    return not has_come_back and any(
        line.startswith("error: ") and NOT_VISIBLE in line for line in lines
    )


def cause(
    rule: str, message: str, logs: Sequence[str], memory_mb: float = 0, minutes: float = 0
) -> str:
    """Return a line that says why a job failed.

    Args:
        rule: name of its rule.
        message: what the executor says of the failure; empty if it says nothing.
        logs: its logs: that of its script, then SLURM's.
        memory_mb: memory that it had asked for; 0 if that is not known.
        minutes: time that it had asked for; 0 if that is not known.
    """
    texts = [last_lines(log) for log in dict.fromkeys(logs)]
    lines = [line for text in texts for line in text]
    if own := [line for line in lines if line.startswith("error: ")]:
        return own[-1]
    if message.startswith(_NEVER):
        return f"error: {rule}: {message}; see its request and the limits of its partition"
    if words := refusal(message):
        return f"error: {rule}: SLURM refuses the job: {words}"
    ended = state(message)
    if ended == "OUT_OF_MEMORY" or any(_MEMORY.search(line) for line in lines):
        asked = f" ({memory_mb:.0f} MB asked for)" if memory_mb else ""
        return (
            f"error: {rule}: a job ran out of memory{asked}; give it more with --set-resources "
            f"{rule}:mem_mb={2 * memory_mb or 8000:.0f}"
        )
    if ended in ("TIMEOUT", "DEADLINE") or any(_TIME.search(line) for line in lines):
        asked = f" ({minutes:.0f} minutes asked for)" if minutes else ""
        return (
            f"error: {rule}: a job ran out of time{asked}; give it more with --set-resources "
            f"{rule}:runtime={2 * minutes or 60:.0f}, or make jobs smaller with job_size_mb"
        )
    if ended in ("NODE_FAIL", "BOOT_FAIL"):
        return f"error: {rule}: the node of a job failed"
    if ended == "CANCELLED":
        return f"error: {rule}: a job was cancelled, by scancel or by the cluster"
    if "MissingOutputException" in message:
        return (
            f"error: {rule}: a job ended well, but its files are not seen here; are the catalog, "
            "output_path, tmp_dir and the working directory on a file system that all nodes see? "
            "If that is slow, give a longer --latency-wait"
        )
    if lines:
        last = next(text[-1] for text in reversed(texts) if text)
        return f"error: {rule}: a job failed; the end of its log: {last}"
    if ended:
        return (
            f"error: {rule}: a job failed ({ended}) before it wrote a line; do the nodes see the "
            f"working directory {Path.cwd()} and the Python that this run was started with?"
        )
    said = " ".join(message.partition("For further error details")[0].split())
    return f"error: {rule}: a job failed: {said[:_MAX_LENGTH]}" if said else ""


def causes(lines: Iterable[str]) -> list[str]:
    """Return each cause once, with the number of jobs that have it if they are several."""
    counts: dict[str, int] = {}
    for line in lines:
        counts[line] = counts.get(line, 0) + 1
    return [f"{line} ({count} jobs)" if count > 1 else line for line, count in counts.items()]


def last_lines(log: str) -> list[str]:
    """Return the last lines of a log that are not empty; none if it is missing."""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(file.seek(0, 2) - _MAX_BYTES, 0))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line[:_MAX_LENGTH] for line in lines if line.strip()]
