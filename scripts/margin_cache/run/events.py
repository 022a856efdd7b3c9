"""Jobs of a run, as Snakemake's log records tell of them: progress, and which have failed."""

import logging
import os
import re
import signal
import threading
from collections.abc import Iterable
from dataclasses import replace
from logging.handlers import QueueHandler
from typing import Any, TextIO

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from margin_cache.margin.paths import is_of_this_run
from margin_cache.notification import Job
from margin_cache.progress import Display, JobKey, Stage
from margin_cache.run.slurm import QueueWatch

# What Snakemake logs of jobs that have ended without their files, or by a signal.
_MISSING_OUTPUT = re.compile(r"MissingOutputException in rule \w+ .*\nJob (\d+) ")
_KILLED_JOB = re.compile(r"exit status (129|130|143)\.|died with <Signals\.SIG(HUP|INT|TERM)")


def terminal_handlers() -> list[logging.StreamHandler[TextIO]]:
    """Return Snakemake's own handlers for the terminal: none with other loggers, or without one."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
        and handler.stream is not None
    ]


class RunningJobs(logging.Handler):
    """Follows the jobs of a run until its end, and keeps what it tells of them off the terminal."""

    def __init__(self, handles_signals: bool = True) -> None:
        super().__init__()
        self.finished: list[Job] = []
        self.failed: dict[int, Job] = {}  # those whose last attempt has failed
        self.display: Display | None = None
        self.queue: QueueWatch | None = None
        self.stopped_by = ""  # the name of a signal
        self.unschedulable = ""  # why SLURM would never start a job
        self._jobs: dict[int, Job] = {}
        self._is_stopped = threading.Event()
        # In which this process learns of a signal that has ended a job.
        self._signal_seconds = 5.0 if handles_signals else 0.0

    def begin(self) -> None:
        logger.addHandler(self)
        # In older versions, a queue is what stands before the terminal.
        queues = [part for part in logger.handlers if isinstance(part, QueueHandler)]
        for handler in terminal_handlers() or queues:
            handler.addFilter(self._is_shown)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._follow(record)
        except Exception:
            self.handleError(record)

    def _follow(self, record: Any) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            resources = record.resources or {}
            memory, minutes = (resources.get(name) for name in ("mem_mb", "runtime"))
            job = self._jobs[record.jobid] = Job(
                record.rule_name,
                dict(record.wildcards or {}),
                tuple(map(str, record.log or ())),
                memory_mb=memory if isinstance(memory, int) else 0,
                minutes=minutes if isinstance(minutes, int) else 0,
            )
            if self.display and (key := _key(job)):
                self.display.started(key)
        elif event == LogEvent.JOB_FINISHED:
            self.failed.pop(record.job_id, None)
            if finished := self._jobs.get(record.job_id):
                self.finished.append(finished)
                if self.display and (key := _key(finished)):
                    self.display.finished(key)
        elif event == LogEvent.JOB_ERROR:
            self._failed(record.jobid, record.rule_msg, record.log)
        elif match := _MISSING_OUTPUT.match(record.getMessage()):
            self._failed(int(match[1]), "MissingOutputException", ())

    def _failed(self, number: int, message: str | None, logs: Iterable[str] | None) -> None:
        if number not in self._jobs:
            return
        job = self._jobs[number]
        # Some versions repeat failed jobs at the end of a run, with less to say.
        known = self.failed.get(number, job)
        all_logs = dict.fromkeys([*job.logs, *map(str, logs)] if logs else known.logs)
        self.failed[number] = replace(
            job,
            message=message or known.message,
            logs=tuple(log for log in all_logs if is_of_this_run(log)),
        )

    def _is_shown(self, record: logging.LogRecord) -> bool:
        """Return whether the terminal gets a record: with bars, only warnings, printed above them.

        After a signal none is: Snakemake prints a page about each job that the signal ends.
        """
        # A thread may report the job before the main thread has learned of the same signal.
        if _KILLED_JOB.search(record.getMessage()):
            self._is_stopped.wait(self._signal_seconds)
        display = self.display  # which another thread may close
        if self._is_stopped.is_set() or display is None:
            return not self._is_stopped.is_set()
        if record.levelno >= logging.WARNING:
            display.clear()
        return record.levelno >= logging.WARNING

    def stop_unschedulable(self, job: str, reason: str) -> None:
        """End the run, by SIGTERM, because of a job that SLURM would never start."""
        self.unschedulable = (
            f"error: SLURM would never start job {job} ({reason}). Compare what it asks for "
            f"(scontrol show job {job}) with the limits of its partition, and give another "
            "slurm_partition, or less with --set-resources."
        )
        os.kill(os.getpid(), signal.SIGTERM)

    def stop(self, name: str) -> None:
        self.stopped_by = name
        self._is_stopped.set()
        self._close_display()

    def end(self) -> None:
        self._close_display()
        logger.removeHandler(self)
        if self.queue is not None:
            self.queue.stop()

    def _close_display(self) -> None:
        if self.display is not None:
            self.display.close()
            self.display = None


def _key(job: Job) -> JobKey | None:
    """Return what a job is called in the work of a run; None for jobs of other rules."""
    directory = job.wildcards.get("plan_dir") or job.wildcards.get("audit_dir", "")
    for stage in Stage:
        if job.rule.endswith(stage.rule):
            return directory, stage, job.wildcards.get("job", "")
    return None
