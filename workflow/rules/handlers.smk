# What relies on Snakemake's insides: its log records, its scheduler and its threads.

import gc
import logging
import threading

from margin_cache.notification.messages import FailedJob, failure_summary, finished_margins
from margin_cache.notification.smtp import notify
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent


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


def end_at_once():
    """Let the process end as soon as all is said.

    Snakemake's timers would look for further jobs a second after the last one, and have the process
    wait for that; and Python would search all that is left for garbage.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
    gc.freeze()


ERRORS = ErrorRecords()
if MAIL:
    logger.addHandler(ERRORS)
