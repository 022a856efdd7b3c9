"""Jobs of a run, as Snakemake's log records tell of them: progress, and which have failed."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from logging.handlers import QueueHandler
from typing import Any, TextIO

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from margin_cache.margin.paths import is_of_this_run
from margin_cache.notification.failures import FailedJob
from margin_cache.progress.display import Display, Key
from margin_cache.progress.work import Amount, Stage
from margin_cache.run.slurm import QueueWatch

_MISSING_OUTPUT = re.compile(r"MissingOutputException in rule \w+ .*\nJob (\d+) ")
"""What Snakemake logs of a job that has ended without its files."""


@dataclass(frozen=True)
class Job:
    """A job that Snakemake has announced.

    Attributes:
        rule: name of its rule, without the prefix that a module gives it.
        resources: what it was given, as mem_mb and runtime.
    """

    rule: str
    wildcards: Mapping[str, str]
    output: tuple[str, ...]
    logs: tuple[str, ...]
    resources: Mapping[str, Any]

    @property
    def stage(self) -> Stage | None:
        return next((stage for stage in Stage if self.rule.endswith(stage)), None)

    @property
    def key(self) -> Key | None:
        directory = self.wildcards.get("plan_dir") or self.wildcards.get("audit_dir")
        return (directory, self.stage) if directory and self.stage else None


class JobEvents(logging.Handler):
    """Follows the jobs of a run.

    Attributes:
        finished: the jobs that have ended well.
        failed: the jobs whose last attempt has failed, by Snakemake's numbers of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[Job] = []
        self.failed: dict[int, FailedJob] = {}
        self._jobs: dict[int, Job] = {}
        self._display: Display | None = None
        self._amounts: Mapping[tuple[Key, str], Amount] = {}
        self._keys: set[Key] = set()

    def show(self, display: Display, amounts: Mapping[tuple[Key, str], Amount]) -> None:
        """Show from now on what jobs do.

        Args:
            display: where it is shown.
            amounts: what each job does, by its stage and its name.
        """
        self._display, self._amounts = display, amounts
        self._keys = {key for key, _ in amounts}

    def emit(self, record: logging.LogRecord) -> None:
        # An exception here would end the run.
        try:
            self._follow(record)
        except Exception:
            self.handleError(record)

    def _follow(self, record: Any) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            job = Job(
                record.rule_name,
                dict(record.wildcards or {}),
                tuple(map(str, record.output or ())),
                tuple(map(str, record.log or ())),
                dict(record.resources or {}),
            )
            self._jobs[record.jobid] = job
            if self._display and job.key in self._keys:
                self._display.started(job.key)
        elif event == LogEvent.JOB_FINISHED:
            self.failed.pop(record.job_id, None)
            if finished := self._jobs.get(record.job_id):
                self._finished(finished)
        elif event == LogEvent.JOB_ERROR:
            self._failed(record)
        elif match := _MISSING_OUTPUT.match(record.getMessage()):
            self._failed_job(int(match[1]), "MissingOutputException", ())

    def _finished(self, job: Job) -> None:
        self.finished.append(job)
        amount = self._amounts.get((job.key, job.wildcards.get("job", ""))) if job.key else None
        if self._display and job.key and amount is not None:
            self._display.advance(job.key, amount)

    def _failed(self, record: Any) -> None:
        # Some versions repeat failed jobs at the end of a run, with less to say.
        known = self.failed.get(record.jobid)
        reason = record.rule_msg or (known.message if known else "")
        self._failed_job(record.jobid, reason, record.log or ())

    def _failed_job(self, number: int, reason: str, logs: Iterable[str]) -> None:
        job = self._jobs.get(number)
        if job is None:
            return
        all_logs = dict.fromkeys(map(str, [*job.logs, *logs]))
        memory, minutes = (job.resources.get(name) for name in ("mem_mb", "runtime"))
        self.failed[number] = FailedJob(
            job.rule,
            job.wildcards,
            tuple(log for log in all_logs if is_of_this_run(log)),
            reason,
            memory if isinstance(memory, int) else 0,
            minutes if isinstance(minutes, int) else 0,
        )


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


class _AroundOtherLines(logging.Handler):
    """Clears the display before Snakemake prints a warning or an error; or redraws it after."""

    def __init__(self, display: Display, is_before: bool) -> None:
        super().__init__(logging.WARNING)
        self._act = display.clear if is_before else display.redraw

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._act()
        except Exception:
            self.handleError(record)


@dataclass
class ShownProgress:
    """A display that replaces Snakemake's lines about each job on the terminal."""

    display: Display
    terminals: list[logging.StreamHandler[TextIO]]
    levels: list[int] = field(init=False)
    handlers: tuple[logging.Handler, logging.Handler] = field(init=False)

    def __post_init__(self) -> None:
        self.levels = [handler.level for handler in self.terminals]
        for handler in self.terminals:
            handler.setLevel(logging.WARNING)
        before = _AroundOtherLines(self.display, is_before=True)
        after = _AroundOtherLines(self.display, is_before=False)
        self.handlers = before, after
        logger.handlers.insert(0, before)
        logger.addHandler(after)

    def close(self) -> None:
        """Leave the display as it is, and let Snakemake print its lines again."""
        self.display.close()
        for handler in self.handlers:
            logger.removeHandler(handler)
        for terminal, level in zip(self.terminals, self.levels, strict=True):
            terminal.setLevel(level)


@dataclass
class RunningJobs:
    """What follows the jobs of a run until its end.

    Attributes:
        stopped_by: names of the signals that have stopped the run.
        unschedulable: why SLURM would never start a job; empty if it started all.
    """

    events: JobEvents
    stopped_by: list[str]
    progress: ShownProgress | None = None
    queue: QueueWatch | None = None
    unschedulable: str = ""

    def stop(self, signal: str) -> None:
        """Note that a signal ends the run, and silence Snakemake's pages about killed jobs."""
        self.stopped_by.append(signal)
        self._end_progress()
        # In older versions, a queue is what stands before the terminal.
        queues = [part for part in logger.handlers if isinstance(part, QueueHandler)]
        for handler in terminal_handlers() or queues:
            handler.setLevel(logging.CRITICAL)

    def close(self) -> None:
        """Stop following the jobs."""
        self._end_progress()
        logger.removeHandler(self.events)
        if self.queue is not None:
            self.queue.stop()

    def _end_progress(self) -> None:
        if self.progress is not None:
            self.progress.close()
            self.progress = None
