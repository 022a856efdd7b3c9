# All that relies on Snakemake's insides, which its documentation does not promise: its lock, its
# log records, its scheduler and its threads. Tried with the version below: before another one is
# pinned in requirements.in, run all tests with it, and look at this file.
import gc
import os
import shlex
import threading
import time
from functools import cache

from margin_cache.config.command_line import (
    check_catalog_given,
    check_command,
    check_working_directory,
)
from margin_cache.config.validation import mail_settings
from margin_cache.errors import MarginCacheError
from margin_cache.notification.failures import FailedJob
from margin_cache.notification.messages import (
    MarginStatus,
    disk_space_lines,
    failure_message,
    failure_summary,
    finished_margins,
    forecast_lines,
    margins_to_make,
    resume_command,
    run_details,
    success_message,
)
from margin_cache.notification.smtp import notify, take_login
from margin_cache.process import one_line
from margin_cache.margin.existing_output import has_leftovers
from margin_cache.margin.receipts import missing_receipts
from margin_cache.margin.start_run import start_margin
from margin_cache.margin.model import load_margins
from margin_cache.margin.prepare import prepare_margins
from margin_cache.margin.disk_space import check_disk_space, forecast_margin, disk_space
from margin_cache.margin.shared_filesystem import check_visible
from margin_cache.storage.files import read_json
from snakemake.io import IOFile
from snakemake.settings.types import DeploymentMethod

TRIED_WITH = "9.27.1"
# What Snakemake says after the handlers of a run's end.
LAST_OF_SNAKEMAKE = (
    "Complete log(s): ",
    "Elapsed time: ",
    "WorkflowError:\nAt least one job did not",
)
STARTED = time.monotonic()

# Or Python would look for garbage among all that Snakemake has imported, again and again.
gc.freeze()


def plan_mail():
    """Return whom a mail goes to at the end and how, or None; or end with a line on what is wrong."""
    if not workflow.is_main_process:
        return None
    try:
        return mail_settings(config)
    except MarginCacheError as error:
        sys.exit(one_line(error))


def check_call():
    """Check what Snakemake was called with for what it would leave out or fill in silently."""
    if not workflow.is_main_process:
        return
    if Path(sys.argv[0]).name in ("snakemake", "__main__.py"):
        places = [BASE, Path(workflow.main_snakefile).parent]
        check_command(sys.argv[1:], Path(workflow.workdir_init), places)
        check_working_directory(sys.argv[1:], Path.cwd())
    check_catalog_given(config, Path.cwd(), BASE)


def find_margins(all_settings):
    """Return the margins of a run: planned in the main process, as that has planned them in jobs."""
    if not workflow.is_main_process:
        return load_margins(all_settings)
    return prepare_margins(all_settings, config_files())


def config_files():
    """Return the files of the configuration, each of which overrides those before it."""
    given = list(workflow.config_settings.configfiles)
    if workflow.config_settings.replace_workflow_config:
        return given
    return [Path(file) for file in workflow.configfiles if file not in given] + given


@cache
def begin_run():
    """Lock the margins and write what jobs need, if this process is going to run jobs.

    Called by functions of rules. While the Snakefile is parsed, Snakemake does not tell whether it
    is for a dry run, a summary or the like, none of which may write anything.
    """
    if not workflow.is_main_process or workflow.execution_settings is None:
        return
    try:
        check_batch()
        check_touch(MARGINS[plan_dir].files.output_dir for plan_dir in pending_margins())
        for plan_dir in pending_margins():
            receipts_to_make(plan_dir)
            if not workflow.dryrun:
                start_margin(MARGINS[plan_dir])
        say_what_is_made()
    except (MarginCacheError, OSError) as error:
        end_in_one_line(error)  # Snakemake holds no lock yet


def end_in_one_line(error):
    """End this process with a line, where Snakemake would make a page of an exception."""
    print(one_line(error), file=sys.stderr, flush=True)
    os._exit(1)


def say_what_is_made():
    """Say which margins are made and what they will take; end the run if they cannot fit."""
    if not pending_margins():
        return
    pending = [MARGINS[plan_dir] for plan_dir in pending_margins()]
    expected = [forecast_margin(margin) for margin in pending]
    places = disk_space(zip(pending, expected))
    reports = (report for report in margin_reports() if not report.was_complete)
    for report, each in zip(reports, expected):
        print(margins_to_make([report]), forecast_lines(each), sep="\n", file=sys.stderr)
    print(disk_space_lines(places), file=sys.stderr, flush=True)
    check_disk_space(places)


@cache
def begin_job(plan_dir, job):
    """End this process with a line if it is for a job whose files its machine does not see."""
    if workflow.is_main_process:
        return
    margin = MARGINS[plan_dir]
    try:
        check_visible(margin.files, job_inputs.first_partition(margin, job) if job else None)
    except (MarginCacheError, OSError) as error:
        end_in_one_line(error)


def is_audited(margin):
    """Tell whether an audit is about what lies where a margin would be made."""
    path = margin.settings.audit_catalog_path
    return bool(path) and Path(path).resolve() == margin.files.output_dir.resolve()


def is_forced():
    """Tell whether all is made again."""
    settings = workflow.dag_settings if workflow.is_main_process else None
    return settings is not None and settings.forceall and not workflow.touch


@cache
def shows_done_jobs():
    """Tell whether Snakemake only says what there is, as in its report or its summary.

    Deleting of all output is alike, and shall find none of what is done.
    """
    if not workflow.is_main_process or workflow.execution_settings is not None:
        return False
    return not any(word.startswith("--delete") for word in sys.argv)


def has_jobs(plan_dir):
    """Tell whether the jobs of a margin belong into the DAG: to be done, or to be shown."""
    is_shown = shows_done_jobs() and MARGINS[plan_dir].done_file.exists()
    return plan_dir in pending_margins() or is_shown


def was_made_from(page, file):
    """Tell whether a file was an input of the job that has made a page, as Snakemake remembers it."""
    return str(file) in (workflow.persistence.input(IOFile(str(page))) or [])


def receipts(margin):
    """Return the receipts of jobs that belong into the DAG: missing ones, or all if they count."""
    with_done = workflow.is_main_process and (
        shows_done_jobs() or is_forced() or workflow.dag_settings.batch is not None
    )
    if with_done:
        return [str(margin.files.receipt(job)) for job in margin.plan.reduce_names]
    return list(map(str, receipts_to_make(str(margin.files.plan_dir))))


@cache
def receipts_to_make(plan_dir):
    """Return the receipts that are still to be made, as they were before the first job."""
    return missing_receipts(MARGINS[plan_dir]) if plan_dir in INCOMPLETE else []


def check_batch():
    """Check that a batch is one of files that there are."""
    batch = workflow.dag_settings.batch
    if batch and not all(margin.settings.resume for margin in MARGINS.values()):
        raise MarginCacheError(
            "resume: false begins anew with each --batch, so that no margin is ever done; leave out "
            "one of them"
        )
    if batch and batch.rulename == "all" and batch.batches > len(MARGINS):
        raise MarginCacheError(
            f"--batch: all needs one file a margin, which is less than {batch.batches}; give "
            f"--batch finish_margin={batch.idx}/{batch.batches}"
        )


def check_touch(unmade):
    """Check that with --touch all is there, or a run would seem to have made what is not."""
    for path in unmade if workflow.touch else ():
        raise MarginCacheError(
            f"--touch: {path} is not there, or not whole and of this catalog and configuration, so "
            "there is nothing to touch; make it first, without --touch"
        )


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
            # Snakemake says of files alone that they are missing.
            reason = getattr(record, "rule_msg", "MissingOutputException") or ""
            failed.append(
                FailedJob(
                    job.rule.name,
                    job.wildcards_dict,
                    tuple(filter(is_of_this_run, map(str, logs))),
                    ERRORS.why_hopeless(record) or reason,
                    number_or_zero(job.resources.get("mem_mb")),
                    number_or_zero(job.resources.get("runtime")),
                )
            )
    return sorted(failed, key=lambda job: (job.rule, job.logs))


def number_or_zero(value):
    """Return a number that a job asked for, or 0 if it is none."""
    return value if isinstance(value, int) else 0


def margin_reports():
    """Return what is said about each margin."""
    reports = []
    for plan_dir, margin in MARGINS.items():
        done, parameters = read_json(margin.done_file), margin.plan.parameters
        reports.append(
            MarginStatus(
                name=margin.name,
                location=margin.files.place,
                catalog=margin.settings.input_catalog_path,
                threshold=parameters.threshold,
                is_complete=done is not None or plan_dir not in pending_margins(),
                was_complete=plan_dir not in pending_margins(),
                rows=done["rows"] if done else None,
                files=done["files"] if done else None,
                cell_order=parameters.margin_order if not parameters.fine_filtering else None,
                format=parameters.catalog.format,
            )
        )
    return reports


def write_success(logs):
    """Return the mail about a run that has succeeded."""
    return success_message(margin_reports(), run_details(time.monotonic() - STARTED, logs))


def write_failure(logs):
    """Return the mail about a run that has failed."""
    start = None if workflow.overwrite_workdir else Path.cwd()
    command = resume_command(sys.orig_argv, start)
    details = run_details(time.monotonic() - STARTED, logs)
    return failure_message(margin_reports(), failed_jobs(), command, details, STOPPED_BY)


def end_at_once():
    """Let the process end as soon as all is said.

    Snakemake's timers would look for further jobs a second after the last one, and have the process
    wait for that; and Python would search all that is left for garbage.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
    gc.freeze()


def say_last(lines):
    """Print what a run has to say at its end, after what Snakemake would say later."""
    workflow.logger_manager.logfile_hint()
    workflow.log_workflow_runtime()
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:
        # Nobody reads it, as after `| head`. What is left of it would let Python's own end fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # A signal may come where Snakemake cannot clean up; the trace of that would follow.
    logger.addFilter(
        lambda record: not STOPPED_BY and not record.getMessage().startswith(LAST_OF_SNAKEMAKE)
    )


def end_of_success(logs):
    """Say where the margins are, and let the process end."""
    end_progress()
    say_last(finished_margins(margin_reports()).splitlines() + reports_drawn() + audits_done())
    notify(MAIL, lambda: write_success(logs), LOGIN)
    end_at_once()


def end_of_failure(logs):
    """Say what has failed and how to go on, and let the process end."""
    end_progress()
    cancel_jobs()
    say_last([failure_summary(logs, failed_jobs(), STOPPED_BY)])
    notify(MAIL, lambda: write_failure(logs), LOGIN)
    end_at_once()


def begin_jobs():
    """Check what jobs ask for, watch over the jobs, and show how far they are."""
    heed_signals(end_before_jobs)  # Snakemake has taken one of them over
    try:
        check_touch(job.output[0] for job in workflow.dag.needrun_jobs() if job.output)
    except MarginCacheError as error:
        sys.exit(one_line(error))
    check_requests()
    show_progress(time.monotonic() - STARTED)
    watch_over_jobs()


MAIL = plan_mail()
# In no environment but this object: executors hand their environment to jobs.
LOGIN = take_login(os.environ) if workflow.is_main_process else None
