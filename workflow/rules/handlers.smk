# All that relies on Snakemake's insides, which its documentation does not promise: its lock, its
# log records, its scheduler and its threads. Tried with the version below: before another one is
# pinned in requirements.in, run all tests with it, and look at this file.
import gc
import logging
import os
import shlex
import threading
import time
from functools import cache

from margin_cache.config.validation import mail_settings
from margin_cache.errors import MarginCacheError
from margin_cache.notification.messages import (
    FailedJob,
    MarginReport,
    failure_message,
    failure_summary,
    finished_margins,
    resume_command,
    run_details,
    success_message,
)
from margin_cache.notification.smtp import notify
from margin_cache.process import one_line
from margin_cache.stages.begin import begin_margin
from margin_cache.storage.files import read_json
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake_interface_logger_plugins.common import LogEvent

TRIED_WITH = "9.27.1"
STARTED = time.monotonic()

# Or Python would look for garbage among all that Snakemake has imported, again and again.
gc.freeze()


class ErrorRecords(logging.Handler):
    """Keeps the last log record about each failed job, by the job's number.

    Nothing else has the log of a job on a cluster and what the executor says about its failure.
    """

    def __init__(self):
        super().__init__(logging.ERROR)
        self.by_job = {}

    def emit(self, record):
        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            self.by_job[record.jobid] = record


def plan_mail():
    """Return whom a mail goes to at the end and how, or None; or end with a line on what is wrong."""
    if not workflow.is_main_process:
        return None
    try:
        settings = mail_settings(config)
    except MarginCacheError as error:
        sys.exit(f"error: {error}")
    if settings:
        logger.addHandler(ERRORS)
    return settings


@cache
def begin_run():
    """Lock the margins and write what jobs need, if this process is going to run jobs.

    Called by functions of rules. While the Snakefile is parsed, Snakemake does not tell whether it
    is for a dry run, a summary or the like, none of which may write anything.
    """
    if not workflow.is_main_process or workflow.dryrun or workflow.execution_settings is None:
        return
    try:
        for plan_dir, margin in MARGINS.items():
            begin_margin(margin, plan_dir in PENDING)
    except (MarginCacheError, OSError) as error:
        # Snakemake would make a page of any exception. It holds no lock yet.
        print(one_line(error), file=sys.stderr, flush=True)
        os._exit(1)


def script(name):
    """Return a function for `params` that gives the command which runs a script.

    It takes `output`, though it has no use for it, because Snakemake then does not run a job again
    only since Python or the workflow has moved.
    """
    in_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    python = "python" if in_conda else sys.executable
    command = f"{shlex.quote(python)} {shlex.quote(str(BASE / 'scripts' / name))}"
    return lambda wildcards, output: command


def failed_jobs():
    """Return the jobs that have failed, in order of their rules and logs."""
    failed = []
    for group in workflow.scheduler.failed:
        for job in group.jobs if group.is_group() else [group]:
            record = ERRORS.by_job.get(job.jobid)
            logs = [*job.log, *(getattr(record, "log", None) or [])]
            reason = getattr(record, "rule_msg", None) or ""
            failed.append(
                FailedJob(job.rule.name, job.wildcards_dict, list(map(str, logs)), reason)
            )
    return sorted(failed, key=lambda job: (job.rule, job.logs))


def margin_reports():
    """Return what is said about each margin."""
    reports = []
    for plan_dir, margin in MARGINS.items():
        done = read_json(margin.done_file)
        reports.append(
            MarginReport(
                name=margin.name,
                output_dir=margin.files.output_dir,
                catalog=Path(margin.settings.input_catalog_path),
                threshold=margin.settings.margin_threshold,
                is_complete=done is not None or plan_dir not in PENDING,
                is_older=plan_dir not in PENDING,
                rows=done["rows"] if done else None,
                files=done["files"] if done else None,
            )
        )
    return reports


def write_success(logs):
    """Return the mail about a run that has succeeded, or None if it has only touched files."""
    if workflow.touch:
        return None
    return success_message(margin_reports(), run_details(time.monotonic() - STARTED, logs))


def write_failure(logs):
    """Return the mail about a run that has failed."""
    start = None if workflow.overwrite_workdir else Path.cwd()
    command = resume_command(sys.orig_argv, start)
    details = run_details(time.monotonic() - STARTED, logs)
    return failure_message(margin_reports(), failed_jobs(), command, details)


def end_at_once():
    """Let the process end as soon as all is said.

    Snakemake's timers would look for further jobs a second after the last one, and have the process
    wait for that; and Python would search all that is left for garbage.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
    gc.freeze()


def end_of_success(logs):
    """Say where the margins are, and let the process end."""
    print(finished_margins(margin_reports()), flush=True)
    notify(MAIL, lambda: write_success(logs))
    end_at_once()


def end_of_failure(logs):
    """Say what has failed and how to go on, and let the process end."""
    print(failure_summary(logs), flush=True)
    notify(MAIL, lambda: write_failure(logs))
    end_at_once()


ERRORS = ErrorRecords()
MAIL = plan_mail()
