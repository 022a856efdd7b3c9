"""Runs of the workflow: all that knows Snakemake.

``session`` has the margins of a run and answers the rules: which files, which resources. ``audits``
and ``reports`` do the same for these targets. ``start`` prepares the first job, ``events`` follows
the jobs by Snakemake's log records, ``summary`` writes the last lines and the mail, ``slurm`` looks
for jobs that can never start, and ``compat`` has what Snakemake does not document.

The three functions below are the handlers. Another workflow that uses this one as a module may call
them in its own, since Snakemake does not run those of a module.
"""

import sys
from collections.abc import Iterable

# The functions import what they need: scripts use single modules of this package.


def on_start() -> None:
    """Do what precedes the first job: locks, progress, the watch over SLURM's queue."""
    from margin_cache.run.session import sessions

    for session in sessions:
        session.start()


def on_success(logs: Iterable[str]) -> None:
    """Print what was made and what audits have found, and send the mail.

    Ends the process with exit code 1 if a margin has not passed its audit: no job has failed then.
    """
    from margin_cache.run.session import sessions
    from margin_cache.run.summary import succeeded

    logs = list(logs)
    if not all([succeeded(session, logs) for session in sessions]):
        sys.exit(1)


def on_error(logs: Iterable[str]) -> None:
    """Print what has failed, and send the mail."""
    from margin_cache.run.session import sessions
    from margin_cache.run.summary import failed

    for session in sessions:
        failed(session, list(logs))
