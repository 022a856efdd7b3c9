# All that relies on Snakemake's insides, which its documentation does not promise: what the process
# holds, which jobs have failed, and how a run ends. Tried with the version below; before another one
# is pinned in requirements.in, run the whole workflow tests with it, and look at this file.
import gc
import shlex
import threading
import time

from margin_cache.config.validation import mail_settings
from margin_cache.errors import MarginCacheError
from margin_cache.notification.mail import (
    ErrorRecords,
    RunReport,
    command_line,
    failed_job,
    failure_letter,
    margin_report,
    notify,
    success_letter,
)
from margin_cache.storage.files import read_json
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

TRIED_WITH = "9.27.1"
STARTED = time.monotonic()

# Or Python would look for garbage among all that Snakemake has imported, again and again.
gc.freeze()


def is_locked():
    """Tell whether another run is at work in this directory."""
    return any(Path(".snakemake/locks").glob("*.lock"))


def script(name):
    """Return a function for `params` that gives the command which runs a script.

    It takes `output`, though it has no use for it, because Snakemake then does not run a job again
    only since Python or the workflow has moved.
    """
    in_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    python = "python" if in_conda else sys.executable
    command = f"{shlex.quote(python)} {shlex.quote(str(BASE / 'scripts' / name))}"
    return lambda wildcards, output: command


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


def end_at_once():
    """Let the process end as soon as all is said.

    Snakemake's timers would look for further jobs a second after the last one, and have the process
    wait for that; and Python would search all that is left for garbage.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
    gc.freeze()


def summary():
    """Say where each margin is and how large it is."""
    return "\n".join(
        f"{made['output_dir']}: {made['rows']} rows in {made['files']} files, "
        f"within {margin.settings.margin_threshold:g} arcsec"
        for margin in MARGINS.values()
        if (made := read_json(margin.done_file))
    )


def what_failed(logs):
    """Repeat the errors of failed jobs, which Snakemake's own lines surround, and say how to go on."""
    errors = {
        line.rstrip(): None
        for path in logs
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("error: ")
    }
    if not errors:
        errors = {
            "error: a job failed; its log, which stands above or is named there, says more": None
        }
    advice = "What is done is kept. Correct the above, then give the same command again to go on."
    return "\n".join([*errors, advice])


def report(logs):
    """Return what a mail tells of the run, be it done or failed."""
    return RunReport(
        margins=[margin_report(margin, key in PENDING) for key, margin in MARGINS.items()],
        seconds=time.monotonic() - STARTED,
        command=command_line(sys.argv),
        start=None if workflow.overwrite_workdir else Path.cwd(),
        logs=logs,
    )


def write_success(logs):
    """Return the letter that a run is done, or None if it has only touched files."""
    return None if workflow.touch else success_letter(report(logs))


def write_failure(logs):
    """Return the letter that a run has failed."""
    failed = [
        failed_job(job.rule.name, job.wildcards_dict, job.log, ERRORS.by_job.get(job.jobid))
        for jobs in workflow.scheduler.failed
        for job in (jobs.jobs if jobs.is_group() else [jobs])
    ]
    return failure_letter(report(logs), sorted(failed, key=lambda job: (job.rule, job.logs)))


ERRORS = ErrorRecords()
MAIL = plan_mail()
