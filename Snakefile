import gc
import re
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

# Or Python would look for garbage among all that Snakemake has imported, again and again.
gc.freeze()

BASE = Path(str(workflow.current_basedir))
sys.path.insert(0, str(BASE / "scripts"))

if Path("config/config.yaml").exists():

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/handlers.smk"
include: "workflow/rules/map.smk"
include: "workflow/rules/reduce.smk"
include: "workflow/rules/finish.smk"


rule all:
    default_target: True
    input:
        targets(),


onsuccess:
    print(finished_margins(margin_reports()), flush=True)
    notify(MAIL, lambda: write_success(log))
    end_at_once()


onerror:
    print(failure_summary(log), flush=True)
    notify(MAIL, lambda: write_failure(log))
    end_at_once()
