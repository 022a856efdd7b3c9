# Bars of the stages in the place of what Snakemake says of each job, by its log records and its
# handler of them. Tried with the version that handlers.smk names.
import logging

from margin_cache.config.validation import wants_progress_bar
from margin_cache.errors import MarginCacheError
from margin_cache.process import one_line
from margin_cache.progress.display import open_display
from margin_cache.progress.work import Stage, amount, work_of
from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

SHOWN = []


class Progress(logging.Handler):
    """Takes the place of Snakemake's handler: counts jobs, and lets warnings and errors pass."""

    def __init__(self, inner, jobs, display):
        super().__init__()
        self.inner = inner
        self.jobs = jobs
        self.display = display

    def emit(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_STARTED:
            for job in set(record.jobs) & set(self.jobs):
                self.display.started(self.jobs[job][0])
        if event == LogEvent.JOB_FINISHED:
            if job := self.jobs.pop(record.job_id, None):
                self.display.advance(*job)
        if record.levelno >= logging.WARNING:
            self.display.clear()
            self.inner.handle(record)
            self.display.redraw()


def handler_of_terminal():
    """Return Snakemake's handler for the terminal; None where an option has put another there."""
    named = (each for each in logger.handlers if each.name == "DefaultStreamHandler")
    return next(named, None)


def show_progress(planned):
    """Show how far the run is until ``end_progress``, if that is wanted and can be known.

    With ``--quiet progress`` Snakemake does not say which jobs have finished.
    """
    inner = handler_of_terminal()
    is_quiet = {Quietness.PROGRESS, Quietness.ALL} & set(workflow.output_settings.quiet or ())
    # With standard error closed there is nowhere to show it.
    if not (WANTS_PROGRESS and inner and inner.stream) or is_quiet:
        return
    names, amounts, audited = {}, {}, {}
    for job in workflow.dag.needrun_jobs():
        stage = next((each for each in Stage if job.rule.name.endswith(each)), None)
        if stage is Stage.AUDITING:
            audited[job.jobid] = job.wildcards.audit_dir, int(job.wildcards.job.partition("-")[0])
        elif stage:
            plan_dir, name = job.wildcards.plan_dir, job.wildcards.get("job", "")
            names.setdefault(plan_dir, {each: set() for each in Stage})[stage].add(name)
            amounts[job.jobid] = (plan_dir, stage), amount(MARGINS[plan_dir], stage, name)
    works = {
        plan_dir: work_of(margin, of[Stage.MAPPING], of[Stage.REDUCING])
        for plan_dir, margin in MARGINS.items()
        if (of := names.get(plan_dir))
    }
    if audited:
        of_audits, done = audit_works(audited)
        works, amounts = works | of_audits, amounts | done
    if not works:
        return
    SHOWN.append(Progress(inner, amounts, open_display(inner.stream, works, planned)))
    logger.removeHandler(inner)
    logger.addHandler(SHOWN[0])


def end_progress():
    """Have Snakemake say again what it says."""
    while SHOWN:
        progress = SHOWN.pop()
        progress.display.close()
        logger.removeHandler(progress)
        logger.addHandler(progress.inner)


def plan_progress():
    """Tell whether progress shall be shown; or end with a line on what is wrong."""
    try:
        return wants_progress_bar(config)
    except MarginCacheError as error:
        sys.exit(one_line(error))


WANTS_PROGRESS = workflow.is_main_process and plan_progress()
