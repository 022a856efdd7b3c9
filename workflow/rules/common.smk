# What the rules share: the margins of this run, and what their jobs read and ask for.
import re
from functools import cache

from margin_cache.config.validation import settings_of_margins
from margin_cache.errors import MarginCacheError
from margin_cache.planning.resources import (
    finish_request,
    largest_row_group,
    map_request,
    reduce_request,
)
from margin_cache.process import one_line
from margin_cache.margin import job_inputs, paths
from margin_cache.margin.existing_output import check_output, is_complete


def plan_margins():
    """Return the margins by their plan's directory."""
    check_call()
    margins = find_margins(settings_of_margins(config))
    return {str(margin.files.plan_dir): margin for margin in margins}


def incomplete_margins():
    """Return the plan directories of the margins that are not complete, and may be made."""
    incomplete = [plan_dir for plan_dir, margin in MARGINS.items() if not is_complete(margin)]
    if workflow.is_main_process:
        for margin in (m for key, m in MARGINS.items() if key in incomplete and not is_audited(m)):
            check_output(margin)
    return incomplete


def pending_margins():
    """Return the plan directories of the margins that this run makes."""
    return [key for key in MARGINS if key in INCOMPLETE or is_forced() or is_left(key)]


@cache
def is_left(plan_dir):
    """Tell whether a margin that is complete has only to be cleaned up."""
    return workflow.is_main_process and has_leftovers(MARGINS[plan_dir])


def targets():
    """Return the files that this run is done with, one a margin."""
    begin_run()
    return [job_inputs.target(margin, has_jobs(key)) for key, margin in MARGINS.items()]


def margin_of(wildcards):
    """Return the margin that a job works at."""
    begin_run()
    begin_job(wildcards.plan_dir, wildcards.get("job"))
    return MARGINS[wildcards.plan_dir]


@cache
def row_group_of(plan_dir):
    """Return the largest row group of the catalog of a margin."""
    return largest_row_group(MARGINS[plan_dir].plan)


def for_map(wildcards, input):
    """Return what a map job asks for."""
    plan = margin_of(wildcards).plan
    return map_request(plan, plan.map_job_of(wildcards.job), row_group_of(wildcards.plan_dir))


def for_reduce(wildcards, input):
    """Return what a reduce job asks for, once its shards are there."""
    margin = margin_of(wildcards)
    size = sum(Path(shard).stat().st_size for shard in input)
    job = margin.plan.reduce_job_of(wildcards.job)
    return reduce_request(margin.plan, job, size, bool(margin.files.url))


def for_finish(wildcards, input):
    """Return what the job that finishes a margin asks for."""
    margin = margin_of(wildcards)
    return finish_request(margin.plan, row_group_of(wildcards.plan_dir), bool(margin.files.url))


try:
    MARGINS = plan_margins()
    INCOMPLETE = incomplete_margins()
except (MarginCacheError, OSError) as error:
    sys.exit(one_line(error))
# A margin of no more pixels is finished in seconds, where Snakemake runs; if all are, the rule is local.
FINISHED_LOCALLY = all(len(m.plan.destination_orders) <= 5000 for m in MARGINS.values())


wildcard_constraints:
    plan_dir="|".join(re.escape(plan_dir) for plan_dir in MARGINS),
    job=r"\d{5}(?:-o\d+p\d+)+-[0-9a-f]+",
    fingerprint=r"[0-9a-f]+",
