"""Watches SLURM's queue for jobs that can never start, and cancels what is left of a run."""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path

LOGS = Path(".snakemake", "slurm_logs")
"""Where the executor plugin has SLURM write the logs of jobs, below the working directory."""

POLL_SECONDS = (5, 10, 10, 20, 60)  # before the first looks at the queue; the last one is repeated
CANCEL_PAUSES = (0, 1, 5)  # before each try to cancel what is left of a run [s]
_TIMEOUT = 60  # for an answer of SLURM [s]

_UNSCHEDULABLE = re.compile(
    r"(Account|QOS)NotAllowed|BadConstraints|Invalid(Account|QOS)|MaxMemPerLimit"
    r"|Partition(Node|Time)Limit|(Assoc|QOS)Max\w+PerJob(Limit)?"
)
"""Reasons for which SLURM leaves a job in the queue that no waiting changes."""

_FORMAT = "--Format=JobID:32,Reason:64,STDOUT:4096"
"""Columns of these widths: reasons and paths may have blanks."""


def queued_jobs(logs: Path) -> dict[str, str]:
    """Return the reasons why the user's jobs wait, by their ids, if they log below a directory.

    All jobs of a run do so, and no jobs of runs in other working directories.
    """
    if not logs.exists():
        return {}
    answer = subprocess.run(
        ["squeue", "--me", "--noheader", _FORMAT],
        check=True,
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT,
    )
    return {
        line[:32].strip(): line[32:96].strip()
        for line in answer.stdout.splitlines()
        if Path(line[96:].rstrip()).is_relative_to(logs)
    }


class QueueWatch:
    """Looks at SLURM's queue now and then, in a thread, and reports a job that can never start."""

    def __init__(self, report: Callable[[str, str], None], logs: Path = LOGS) -> None:
        """Begin to look; ``report`` gets the id and SLURM's reason of the first such job, once."""
        self._logs = logs.absolute()
        self._report = report
        self._stopped = threading.Event()
        self._earlier: set[str] = set()
        if not shutil.which("squeue"):
            return
        with suppress(OSError, subprocess.SubprocessError):
            self._earlier = set(queued_jobs(self._logs))
        threading.Thread(target=self._watch, name="queue", daemon=True).start()

    def _jobs(self) -> dict[str, str]:
        """Return the jobs of this run in the queue, with the reasons why they wait."""
        jobs = queued_jobs(self._logs).items()
        return {job: reason for job, reason in jobs if job not in self._earlier}

    def _watch(self) -> None:
        for pause in chain(POLL_SECONDS, repeat(POLL_SECONDS[-1])):
            if self._stopped.wait(pause):
                return
            with suppress(OSError, subprocess.SubprocessError):  # SLURM does not answer
                for job, reason in self._jobs().items():
                    if _UNSCHEDULABLE.fullmatch(reason):
                        self._report(job, reason)
                        return

    def stop(self) -> None:
        self._stopped.set()

    def cancel_jobs(self) -> None:
        """Cancel what is left of this run in the queue.

        Snakemake cancels the jobs that it knows; some may be submitted while it is stopped. A busy
        SLURM may refuse to answer, and is asked again.
        """
        if not shutil.which("squeue"):
            return
        command, reason = ["squeue"], ""
        for pause in CANCEL_PAUSES:
            time.sleep(pause)
            try:
                if jobs := self._jobs():
                    command = ["scancel", *jobs]
                    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT)
                return
            except (OSError, subprocess.SubprocessError) as error:
                reason = str(error)
        print(f"warning: {' '.join(command)}: {reason}. Look for jobs in the queue.", flush=True)
