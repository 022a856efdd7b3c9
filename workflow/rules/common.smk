import shlex
import time
from functools import cache

from margin_cache.config.validation import mail_settings, settings_of_margins
from margin_cache.errors import MarginCacheError
from margin_cache.notification.messages import (
    MarginReport,
    failure_message,
    resume_command,
    run_details,
    success_message,
)
from margin_cache.stages.layout import load_margins
from margin_cache.stages.prepare import prepare_margins
from margin_cache.planning.resources import (
    finish_request,
    largest_row_group,
    map_request,
    reduce_request,
)
from margin_cache.stages.existing_output import (
    PROVENANCE,
    check_output,
    forget_false_receipts,
    is_complete,
)
from margin_cache.storage.files import read_json
from snakemake.settings.types import DeploymentMethod

SCHEMA = BASE / "workflow/schemas/config.schema.yaml"

# The most destinations of a margin that is finished where Snakemake runs, in a few seconds.
FINISHED_LOCALLY = 5000
STARTED = time.monotonic()


def plan_mail():
    """Return whom a mail goes to at the end and how, or None; or end with a line on what is wrong."""
    if not workflow.is_main_process:
        return None
    try:
        return mail_settings(config, SCHEMA)
    except MarginCacheError as error:
        sys.exit(f"error: {error}")


def plan_margins():
    """Return the margins by their working directory, or end with a line that says what is wrong."""
    config.setdefault("input_catalog_path", str(BASE / "demo/hipparcos"))
    try:
        all_settings = settings_of_margins(config, SCHEMA)
        if workflow.is_main_process:
            margins = prepare_margins(all_settings)
            for margin in margins:
                check_output(margin)
        else:
            margins = load_margins(all_settings)
    except MarginCacheError as error:
        sys.exit(f"error: {error}")
    return {str(margin.work): margin for margin in margins}


def is_locked():
    """Tell whether another run is at work in this directory."""
    return any(Path(".snakemake/locks").glob("*.lock"))


def pending_margins():
    """Return the working directories of the margins that are not complete."""
    pending = [work for work, margin in MARGINS.items() if not is_complete(margin)]
    if workflow.is_main_process and not is_locked():
        for work in pending:
            forget_false_receipts(MARGINS[work])
    return pending


def targets():
    """Return what all margins are done with: a receipt, or the catalog itself if it is complete."""
    return [
        str(margin.finished if work in PENDING else margin.place / PROVENANCE)
        for work, margin in MARGINS.items()
    ]


def partitions_of(wildcards):
    """Return the partition files that a map job reads.

    Without those whose paths have braces, which Snakemake takes for wildcards, and without any if
    one is dated in the future, by a file server whose clock is wrong, since Snakemake would then
    find the shard too old. The state of all is in the job's name.
    """
    plan = MARGINS[wildcards.work].plan
    job = plan.map_job_of(wildcards.job)
    if plan.newest_of(job) > time.time_ns():
        return []
    return [file for file in plan.files_of(job) if not set("{}") & set(file)]


def shards_of(wildcards):
    """Return the shards that a reduce job reads."""
    margin = MARGINS[wildcards.work]
    needs = margin.plan.needs_of(margin.plan.reduce_job_of(wildcards.job))
    return [str(margin.shard(margin.plan.map_names[need])) for need in needs]


def missing_receipts_of(wildcards):
    """Return the receipts that are still to be made.

    A reduce job that has its receipt stays out of the DAG. In it, Snakemake would run it again as
    soon as a neighbour that has changed asks for one of its shards, and so on around the sky.
    """
    margin = MARGINS[wildcards.work]
    receipts = map(margin.receipt, margin.plan.reduce_names)
    return [str(receipt) for receipt in receipts if not receipt.exists()]


def name_of(wildcards):
    """Return the name of the margin that a job works at."""
    return MARGINS[wildcards.work].name


@cache
def row_group_of(work):
    """Return the largest row group of the catalog of a margin."""
    return largest_row_group(MARGINS[work].plan)


def for_map(wildcards, input):
    """Return what a map job asks for."""
    plan = MARGINS[wildcards.work].plan
    return map_request(plan, plan.map_job_of(wildcards.job), row_group_of(wildcards.work))


def for_reduce(wildcards, input):
    """Return what a reduce job asks for, once its shards are there."""
    plan = MARGINS[wildcards.work].plan
    size = sum(Path(shard).stat().st_size for shard in input)
    return reduce_request(plan, plan.reduce_job_of(wildcards.job), size)


def for_finish(wildcards, input):
    """Return what the job asks for that finishes a margin."""
    return finish_request(MARGINS[wildcards.work].plan, row_group_of(wildcards.work))


def asked(name, request):
    """Return a function for `resources` that gives one of those that a job asks for."""
    return lambda wildcards, input, attempt: getattr(request(wildcards, input).at(attempt), name)


def is_finished_locally():
    """Tell whether all margins are so small that finishing them is not worth a job on a cluster.

    A rule is local or not, for all its jobs.
    """
    sizes = [len(margin.plan.destination_orders) for margin in MARGINS.values()]
    return max(sizes) <= FINISHED_LOCALLY


def script(name):
    """Return a function for `params` that gives the command which runs a script.

    It takes `output`, though it has no use for it, because Snakemake then does not run a job again
    only since Python or the workflow has moved.
    """
    in_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    python = "python" if in_conda else sys.executable
    command = f"{shlex.quote(python)} {shlex.quote(str(BASE / 'scripts' / name))}"
    return lambda wildcards, output: command


def margin_reports():
    """Return what is said about each margin."""
    reports = []
    for work, margin in MARGINS.items():
        made = read_json(margin.finished)
        reports.append(
            MarginReport(
                name=margin.name,
                output_dir=margin.place,
                catalog=Path(margin.settings.input_catalog_path),
                threshold=margin.settings.margin_threshold,
                is_complete=made is not None or work not in PENDING,
                is_older=work not in PENDING,
                rows=made["rows"] if made else None,
                files=made["files"] if made else None,
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


MAIL = plan_mail()
MARGINS = plan_margins()
PENDING = pending_margins()


wildcard_constraints:
    work="|".join(re.escape(work) for work in MARGINS),
    job=r"\d{5}-[0-9a-f]+",
    state=r"[0-9a-f]+",
