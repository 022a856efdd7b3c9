"""The start of a run: what is printed, checked and saved before its first job."""

import os
import signal
import sys
import time
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING

from snakemake.logging import logger

from margin_cache.margin.disk_space import disk_space
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.prepare import start_margin
from margin_cache.notification.messages import (
    disk_space_lines,
    forecast_lines,
    margin_status,
    margins_to_make,
)
from margin_cache.planning.forecast import Forecast
from margin_cache.process import FAILURE_MARK
from margin_cache.progress.display import open_display
from margin_cache.progress.work import work_of
from margin_cache.run.events import JobEvents, RunningJobs, ShownProgress, terminal_handlers
from margin_cache.run.slurm import QueueWatch

if TYPE_CHECKING:
    from margin_cache.run.session import Session


def describe_plan(margins: Iterable[tuple[Margin, Forecast]]) -> str:
    """Return the lines that say which margins are made, and what that will take."""
    margins = list(margins)
    lines = []
    for margin, forecast in margins:
        lines += [margins_to_make([margin_status(margin)]), forecast_lines(forecast)]
    return "\n".join([*lines, disk_space_lines(disk_space(margins))])


def start_margins(session: "Session") -> None:
    """Lock the margins that this run makes, and save what their jobs read, once each."""
    for plan_dir in session.margins_in_dag():
        if plan_dir in session.started:
            continue
        session.started.add(plan_dir)
        margin = session.margins[plan_dir]
        start_margin(margin)
        for mark in margin.files.plan_dir.glob(f"logs/*/*{FAILURE_MARK}"):
            mark.unlink(missing_ok=True)  # of a job that has failed for good in an earlier run
    while session.margins_read:
        save_margin(session.margins_read.pop())
    while session.before_jobs:
        session.before_jobs.pop(0)()


def start_jobs(session: "Session") -> None:
    """Follow the jobs of a run by Snakemake's log records, and show how far they are."""
    running = session.jobs
    logger.addHandler(running.events)
    if not session.is_module:
        handle_signals(running)
    if session.wants_progress_bar:
        running.progress = show_progress(session, running.events)

    def end_run(job: str, reason: str) -> None:
        running.unschedulable = (
            f"error: SLURM would never start job {job} ({reason}). Compare what it asks for "
            f"(scontrol show job {job}) with the limits of its partition, and give another "
            "slurm_partition, or less with --set-resources"
        )
        os.kill(os.getpid(), signal.SIGTERM)

    running.queue = QueueWatch(end_run)


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


def show_progress(session: "Session", events: JobEvents) -> ShownProgress | None:
    """Draw bars, or print lines now and then; None if there is nothing to count or to write to."""
    terminals = terminal_handlers()
    works = {
        plan_dir: work_of(session.margins[plan_dir], session.makes_all)
        for plan_dir in session.margins_in_dag()
    } | session.audits.works()
    if not works or not terminals:
        return None
    planned_seconds = time.monotonic() - session.started_at
    display = open_display(terminals[0].stream, works.values(), planned_seconds)
    events.show(display, works)
    return ShownProgress(display, terminals)
