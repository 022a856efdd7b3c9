"""The end of a run: the last lines on the terminal, and the mail."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from margin_cache.notification.failures import Job
from margin_cache.notification.messages import (
    MarginStatus,
    failure_subject,
    failure_summary,
    finished_margins,
    mail,
    margin_status,
    resume_command,
    run_details,
    success_subject,
)
from margin_cache.notification.smtp import notify, take_login
from margin_cache.run import compat

if TYPE_CHECKING:
    from margin_cache.run.session import Session


def _statuses(session: "Session") -> list[MarginStatus]:
    return [
        margin_status(session.margins[plan_dir], session.is_pending(plan_dir))
        for plan_dir in session.margins_of_run()
    ]


def succeeded(session: "Session", logs: list[str]) -> bool:
    """Print where the margins are, what audits have found, and where reports are.

    Returns:
        whether all audited margins have passed.
    """
    statuses, verdicts = _statuses(session), session.audits.verdicts(are_finished=True)
    made = [status for status in statuses if not status.was_complete]
    lines = finished_margins(made).splitlines()
    for job in session.jobs.events.finished:
        if job.rule.endswith("draw_report"):
            lines.append(f"report: {job.output[0]}")
    audits = [text for text, _ in verdicts]
    subject = success_subject(statuses, audits)
    _end(session, [*lines, *audits], subject, ["The run is done."], logs)
    return all(is_passed for _, is_passed in verdicts)


def failed(session: "Session", logs: list[str]) -> None:
    """Print what has failed and how to go on."""
    running = session.jobs
    jobs = sorted(running.events.failed.values(), key=lambda job: (job.rule, job.logs))
    stopped_by = running.stopped_by
    if running.unschedulable:
        jobs, stopped_by = [Job("submitted to SLURM", message=running.unschedulable)], ""
    has_directory = any(word.startswith(("-d", "--directory")) for word in sys.orig_argv)
    command = resume_command(sys.orig_argv, None if has_directory else Path.cwd())
    lines = [text for text, _ in session.audits.verdicts(are_finished=False)]
    lines.append(running.unschedulable or failure_summary(logs, jobs, stopped_by))
    subject = failure_subject(_statuses(session), jobs) if session.mail is not None else ""
    _end(session, lines, subject, [command], logs)


def _end(
    session: "Session", lines: list[str], subject: str, first: list[str], logs: list[str]
) -> None:
    """Print the last lines, and send them in a mail, after its first paragraphs."""
    session.jobs.close()
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:
        # Nobody reads it, as after `| head`. What is left of it would let Python's own end fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if session.mail is not None:
        details = run_details(time.monotonic() - session.started_at, logs)
        message = mail(subject, [*first, "\n".join(lines), details])
        notify(session.mail, message, session.login or take_login(os.environ))
    if session.jobs.queue is not None:
        session.jobs.queue.cancel_jobs()
    if not session.is_module:
        compat.end_timers()
        compat.skip_garbage()
