import shlex

from margin_cache.margin import (
    check_output,
    forget_false_receipts,
    is_complete,
    load_margins,
    prepare_margins,
)
from margin_cache.storage import read_json

SCRIPTS = BASE / "scripts"
PYTHON = shlex.quote(sys.executable)


def plan_margins():
    """Return the margins by their working directory, or end with one line that says what is wrong."""
    try:
        all_settings = settings_of_margins(config, BASE / "workflow/schemas/config.schema.yaml")
        if not workflow.is_main_process:
            margins = load_margins(all_settings)
        else:
            margins = prepare_margins(all_settings)
            for margin in margins:
                check_output(margin)
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
        margin.finished if work in PENDING else margin.place / "catalog_info.json"
        for work, margin in MARGINS.items()
    ]


MARGINS = plan_margins()
PENDING = pending_margins()


wildcard_constraints:
    work="|".join(re.escape(work) for work in MARGINS),
    job=r"\d{5}-[0-9a-f]+",
    state=r"[0-9a-f]+",
