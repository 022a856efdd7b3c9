"""Jobs of a run, as Snakemake's log records tell of them: progress, and which have failed."""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from logging.handlers import QueueHandler
from typing import Any, TextIO

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from margin_cache.margin.paths import is_of_this_run
from margin_cache.notification.messages import Job
from margin_cache.progress import Amount, Display, MarginWork, Stage
from margin_cache.run.slurm import QueueWatch

# What Snakemake logs of jobs that have ended without their files, or by a signal.
_MISSING_OUTPUT = re.compile(r"MissingOutputException in rule \w+ .*\nJob (\d+) ")
_KILLED_JOB = re.compile(r"exit status (129|130|143)\.|died with <Signals\.SIG(HUP|INT|TERM)")

_SIGNAL_SECONDS = 5.0  # in which this process learns of a signal that has ended a job


def terminal_handlers() -> list[logging.StreamHandler[TextIO]]:
    """Return Snakemake's own handlers for the terminal.

    None are left where an option has replaced them, or where stderr is closed.
    """
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
        and handler.stream is not None
    ]


class _OnWarning(logging.Handler):
    """Does something whenever Snakemake prints a warning or an error."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._act = act

    def emit(self, record: logging.LogRecord) -> None:
        # An exception here would end the run.
        try:
            self._act()
        except Exception:
            self.handleError(record)


class ShownProgress:
    """A display that replaces Snakemake's lines about each job on the terminal."""

    def __init__(
        self,
        display: Display,
        works: Mapping[str, MarginWork],
        terminals: list[logging.StreamHandler[TextIO]],
    ) -> None:
        """Show what jobs do, by the directories of margins and audits."""
        self._display = display
        self._works = works
        self._levels = {handler: handler.level for handler in terminals}
        for handler in terminals:
            handler.setLevel(logging.WARNING)
        self._handlers = before, after = _OnWarning(display.clear), _OnWarning(display.redraw)
        logger.handlers.insert(0, before)
        logger.addHandler(after)

    def started(self, job: Job) -> None:
        if work := self._work_of(job):
            self._display.started(work[0])

    def finished(self, job: Job) -> None:
        if work := self._work_of(job):
            self._display.advance(*work)

    def _work_of(self, job: Job) -> tuple[Stage, Amount] | None:
        """Return what a job does, if it counts."""
        directory = job.wildcards.get("plan_dir") or job.wildcards.get("audit_dir")
        work = self._works.get(directory or "")
        stage = next((stage for stage in Stage if job.rule.endswith(stage)), None)
        if work is None or stage is None:
            return None
        return stage, work.jobs[stage][job.wildcards.get("job", "")]

    def close(self) -> None:
        """Leave the display as it is, and let Snakemake print its lines again."""
        self._display.close()
        for handler in self._handlers:
            logger.removeHandler(handler)
        for terminal, level in self._levels.items():
            terminal.setLevel(level)


class RunningJobs(logging.Handler):
    """Follows the jobs of a run until its end.

    Attributes:
        finished: the jobs that have ended well.
        failed: the jobs whose last attempt has failed, by Snakemake's numbers of them.
        stopped_by: name of the signal that has stopped the run; empty if none has.
        unschedulable: why SLURM would never start a job; empty if it started all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[Job] = []
        self.failed: dict[int, Job] = {}
        self.progress: ShownProgress | None = None
        self.queue: QueueWatch | None = None
        self.stopped_by = ""
        self.unschedulable = ""
        self._jobs: dict[int, Job] = {}
        self._is_stopped = threading.Event()

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
                output=tuple(map(str, record.output or ())),
            )
            if progress := self.progress:
                progress.started(job)
        elif event == LogEvent.JOB_FINISHED:
            self.failed.pop(record.job_id, None)
            if finished := self._jobs.get(record.job_id):
                self.finished.append(finished)
                if progress := self.progress:
                    progress.finished(finished)
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

    def hide_killed_jobs(self) -> None:
        """Keep Snakemake's pages about the jobs that a signal ends from the terminal."""
        # In older versions, a queue is what stands before the terminal.
        queues = [part for part in logger.handlers if isinstance(part, QueueHandler)]
        for handler in terminal_handlers() or queues:
            handler.addFilter(self._is_shown)

    def _is_shown(self, record: logging.LogRecord) -> bool:
        # A thread may report the job before the main thread has learned of the same signal.
        if _KILLED_JOB.search(record.getMessage()):
            self._is_stopped.wait(_SIGNAL_SECONDS)
        return not self._is_stopped.is_set()

    def stop(self, signal: str) -> None:
        """Note that a signal ends the run."""
        self.stopped_by = signal
        self._is_stopped.set()
        self._end_progress()

    def end(self) -> None:
        """Stop following the jobs."""
        self._end_progress()
        logger.removeHandler(self)
        if self.queue is not None:
            self.queue.stop()

    def _end_progress(self) -> None:
        if self.progress is not None:
            self.progress.close()
            self.progress = None
