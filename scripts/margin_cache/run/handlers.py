"""The start and the end of a run: locks, bars and signals; the last lines and the mail.

Another workflow that uses this one as a module may call ``on_start``, ``on_success`` and
``on_error`` in its own handlers, since Snakemake does not run those of a module.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from types import FrameType

from margin_cache import notification
from margin_cache.margin.paths import REPORT_PAGE
from margin_cache.progress import Display, Work
from margin_cache.run import compat
from margin_cache.run.events import RunningJobs, terminal_handlers
from margin_cache.run.session import Session, errors_in_one_line, sessions
from margin_cache.run.slurm import QueueWatch


def on_start() -> None:
    """Do what precedes the first job: locks, progress, the watch over SLURM's queue.

    Ends the process with one line if another run makes a margin.
    """
    for session in sessions:
        if session.jobs.queue is not None:  # started already
            continue
        with errors_in_one_line():
            session.start_margins()
            session.jobs.begin()
            if not session.is_module:
                handle_signals(session.jobs)
            if session.settings.progress_bar:
                show_progress(session)
            session.jobs.queue = QueueWatch(session.jobs.stop_unschedulable)


def handle_signals(running: RunningJobs) -> None:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, which cancels jobs and removes the lock.

    Signals that are ignored, as SIGHUP is by nohup, stay so.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        is_first = not running.stopped_by
        if is_first:
            running.stop(signal.Signals(number).name)
        print("stopping: waiting for the end of running jobs", file=sys.stderr)
        if is_first:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def show_progress(session: Session) -> None:
    """Draw bars, or print lines now and then, if there is something to count and to write to."""
    terminals, work, names = terminal_handlers(), Work(), []
    for plan_dir, margin in session.margins_in_dag().items():
        work.add_margin(margin, session.makes_all, session.made_with(plan_dir))
        names.append(margin.name)
    names += session.audits.add_work(work)
    if names and terminals:
        title = names[0] if len(names) == 1 else f"{len(names)} margins"
        planned_seconds = time.monotonic() - session.started_at
        session.jobs.display = Display(terminals[0].stream, title, work, planned_seconds)


def on_success(logs: Iterable[str]) -> None:
    """Print where the margins are, what audits have found, and where reports are; send the mail.

    Ends the process with exit code 1 if a margin has not passed its audit: no job has failed then.
    """
    logs, all_passed = list(logs), True
    for session in sessions:
        margins, verdicts = session.margins_in_dag(), session.audits.verdicts(are_finished=True)
        made = [margin for margin in margins.values() if margin.done_file.exists()]
        lines = [line for margin in made for line in notification.finished(margin)]
        drawn = [job for job in session.jobs.finished if job.rule.endswith("draw_report")]
        lines += [f"report: {REPORT_PAGE.format(**job.wildcards)}" for job in drawn]
        audits = [text for text, _ in verdicts]
        subject = notification.success_subject([margin.name for margin in made], audits)
        _end(session, [*lines, *audits], subject, "The run is done.", logs)
        all_passed &= all(is_passed for _, is_passed in verdicts)
    if not all_passed:
        sys.exit(1)


def on_error(logs: Iterable[str]) -> None:
    """Print what has failed and how to go on, and send the mail."""
    logs = list(logs)
    command = notification.resume_command(sys.orig_argv)
    for session in sessions:
        running = session.jobs
        jobs = sorted(running.failed.values(), key=lambda job: (job.rule, job.logs))
        if running.unschedulable:
            jobs = [notification.Job("submitted to SLURM", message=running.unschedulable)]
        lines = [text for text, _ in session.audits.verdicts(are_finished=False)]
        lines.append(
            running.unschedulable or notification.failure_summary(logs, jobs, running.stopped_by)
        )
        incomplete = [m.name for m in session.margins_in_dag().values() if not m.done_file.exists()]
        names = incomplete or [margin.name for margin in session.margins.values()]
        subject = notification.failure_subject(names, jobs)
        _end(session, lines, subject, command, logs)


def _end(session: Session, lines: list[str], subject: str, first: str, logs: list[str]) -> None:
    """Print the last lines, and send them in a mail, after its first paragraph."""
    session.jobs.end()
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:
        # Nobody reads it, as after `| head`. What is left of it would let Python's own end fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if session.mail is not None:
        details = notification.run_details(time.monotonic() - session.started_at, logs)
        message = notification.mail(subject, [first, "\n".join(lines), details])
        notification.notify(
            session.mail, message, session.login or notification.take_login(os.environ)
        )
    if session.jobs.queue is not None:
        session.jobs.queue.cancel_jobs()
    if not session.is_module:
        compat.end_timers()
        compat.skip_garbage()
