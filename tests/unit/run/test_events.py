"""Jobs are followed by Snakemake's log records, in the order in which Snakemake writes them."""

import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from margin_cache.progress import JobKey, Stage
from margin_cache.run.events import RunningJobs, terminal_handlers
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent


class FakeDisplay:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def started(self, job: JobKey) -> None:
        self.told.append(("started", job))

    def finished(self, job: JobKey) -> None:
        self.told.append(("finished", job))

    def clear(self) -> None:
        self.told.append(("clear",))

    def close(self) -> None:
        self.told.append(("close",))


def record(event: LogEvent | None, level: int = logging.INFO, **values: Any) -> logging.LogRecord:
    message = values.pop("message", "")
    made = logging.LogRecord("snakemake", level, "", 0, message, (), None)
    vars(made).update(values, event=event)
    return made


def job_info(number: int, job: str = "00001-o0p1-ab", **values: Any) -> logging.LogRecord:
    fields = {
        "jobid": number,
        "rule_name": "margin_map_partitions",
        "rule_msg": "Mapping",
        "wildcards": {"plan_dir": "plans/ab", "job": job},
        "input": [],
        "output": ["shard"],
        "log": ["script.log"],
        "resources": {"mem_mb": 700, "runtime": 11, "tmpdir": "/tmp"},
    }
    return record(LogEvent.JOB_INFO, **fields | values)


def job_error(number: int, message: str | None = None, log: list[str] | None = None) -> Any:
    fields = {"jobid": number, "rule_name": "margin_map_partitions", "rule_msg": message}
    return record(LogEvent.JOB_ERROR, logging.ERROR, **fields, log=log or [])


@pytest.fixture
def display() -> FakeDisplay:
    return FakeDisplay()


@pytest.fixture
def events(display: FakeDisplay) -> Iterator[RunningJobs]:
    events = RunningJobs()
    events.display = display
    yield events
    events.end()


def test_a_job_is_counted_when_it_is_finished(events: RunningJobs, display: FakeDisplay) -> None:
    events.emit(record(LogEvent.JOB_STARTED, jobs=[4]))
    events.emit(job_info(4))
    job = ("plans/ab", Stage.MAPPING, "00001-o0p1-ab")
    assert display.told == [("started", job)]
    events.emit(record(LogEvent.JOB_FINISHED, job_id=4))
    assert display.told[1:] == [("finished", job)]
    assert [job.rule for job in events.finished] == ["margin_map_partitions"]


def test_jobs_that_nobody_counts_are_passed_over(events: RunningJobs, display: FakeDisplay) -> None:
    events.emit(job_info(1, rule_name="all", wildcards={}, output=[], log=[]))
    events.emit(record(LogEvent.JOB_FINISHED, job_id=1))
    events.emit(record(LogEvent.JOB_FINISHED, job_id=99))
    assert display.told == []


def test_a_failed_job_is_kept_with_what_it_asked_for(events: RunningJobs) -> None:
    events.emit(job_info(4))
    events.emit(job_error(4, "SLURM status is: 'TIMEOUT'", ["script.log", "7.log"]))
    events.emit(job_error(4))  # as some versions repeat it at the end
    (job,) = events.failed.values()
    assert job.logs == ("script.log", "7.log") or job.logs == ("script.log",)
    assert (job.message, job.memory_mb, job.minutes) == ("SLURM status is: 'TIMEOUT'", 700, 11)


def test_a_job_that_succeeds_at_a_later_attempt_has_not_failed(events: RunningJobs) -> None:
    events.emit(job_info(4))
    events.emit(job_error(4))
    events.emit(job_info(4))
    events.emit(record(LogEvent.JOB_FINISHED, job_id=4))
    assert events.failed == {}


def test_a_job_that_ends_without_its_files_has_failed(events: RunningJobs) -> None:
    events.emit(job_info(4))
    text = (
        'MissingOutputException in rule margin_map_partitions in file "/x/margin.smk", line 2:\n'
        "Job 4  completed successfully, but some output files are missing."
    )
    events.emit(record(LogEvent.ERROR, logging.ERROR, message=text))
    (job,) = events.failed.values()
    assert job.message == "MissingOutputException"


def test_a_record_of_unknown_shape_ends_no_run(
    events: RunningJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    events.emit(record(LogEvent.JOB_FINISHED))
    events.emit(record(LogEvent.JOB_INFO, jobid=1))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.StreamHandler[Any]]:
    """Snakemake's handler for the terminal, alone on its logger."""
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    yield handler


def test_lines_about_jobs_give_way_to_progress_and_errors_do_not(
    terminal: logging.StreamHandler[Any], display: FakeDisplay
) -> None:
    running = RunningJobs()
    running.begin()
    running.display = display
    logger.info("rule map_partitions:")
    assert terminal.stream.getvalue() == ""
    logger.error("Error in rule")
    assert terminal.stream.getvalue() == "Error in rule\n"
    assert display.told == [("clear",)]
    running.end()
    assert logger.handlers == [terminal]
    logger.info("Complete log(s)")
    assert terminal.stream.getvalue().endswith("Complete log(s)\n")


def test_what_snakemake_says_after_a_signal_is_not_printed(
    terminal: logging.StreamHandler[Any], display: FakeDisplay
) -> None:
    reporting_began = threading.Event()
    terminal.addFilter(lambda record: reporting_began.set() is None)
    running = RunningJobs()
    running.begin()
    running.display = display
    # A thread that reports a job which the signal has ended, before this thread learns of it.
    message = "Command 'map.py' returned non-zero exit status 130."
    reporting = threading.Thread(target=logger.error, args=[message])
    reporting.start()
    assert reporting_began.wait(60)
    running.stop("SIGINT")
    reporting.join()
    logger.error("Error in rule")
    running.end()
    logger.error("At least one job did not complete successfully.")
    assert terminal.stream.getvalue() == ""
    assert display.told.count(("close",)) == 1


def test_a_log_file_is_not_the_terminal(
    terminal: logging.StreamHandler[Any], tmp_path: Path
) -> None:
    log = logging.FileHandler(tmp_path / "log", delay=True)
    logger.handlers.append(log)
    assert terminal_handlers() == [terminal]
