import shlex

from margin_cache.errors import MarginCacheError
from margin_cache.margin import (
    PROVENANCE,
    check_output,
    forget_false_receipts,
    is_complete,
    load_margins,
    prepare_margins,
)
from margin_cache.settings import settings_of_margins
from margin_cache.storage import read_json
from snakemake.settings.types import DeploymentMethod

SCHEMA = BASE / "workflow/schemas/config.schema.yaml"


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
    """Return the partition files that a map job reads."""
    plan = MARGINS[wildcards.work].plan
    return plan.files_of(plan.map_job_of(wildcards.job))


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


def script(name):
    """Return a function for `params` that gives the command which runs a script.

    It takes `output`, though it has no use for it, because Snakemake then does not run a job again
    only since Python or the workflow has moved.
    """
    in_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    python = "python" if in_conda else sys.executable
    command = f"{shlex.quote(python)} {shlex.quote(str(BASE / 'scripts' / name))}"
    return lambda wildcards, output: command


def summary():
    """Say where each margin is and how large it is."""
    return "\n".join(
        f"{made['place']}: {made['rows']} rows in {made['files']} files, "
        f"within {margin.settings.margin_threshold:g} arcsec"
        for margin in MARGINS.values()
        if (made := read_json(margin.finished))
    )


def what_failed(logs):
    """Repeat the errors of failed jobs, which Snakemake's own lines surround, and say how to go on."""
    errors = {
        line.rstrip(): None
        for path in logs
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("error: ")
    }
    return "\n".join([*errors, "What is done is kept. Give the same command again to go on."])


MARGINS = plan_margins()
PENDING = pending_margins()


wildcard_constraints:
    work="|".join(re.escape(work) for work in MARGINS),
    job=r"\d{5}-[0-9a-f]+",
    state=r"[0-9a-f]+",
