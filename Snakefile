import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

BASE = Path(str(workflow.current_basedir))
sys.path.insert(0, str(BASE / "scripts"))

if Path("config/config.yaml").exists():

    configfile: "config/config.yaml"


include: "workflow/rules/cluster.smk"
include: "workflow/rules/progress.smk"
include: "workflow/rules/handlers.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/map.smk"
include: "workflow/rules/reduce.smk"
include: "workflow/rules/finish.smk"
include: "workflow/rules/audit_files.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/report_files.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        lambda wildcards: targets() + reports_shown(),


onstart:
    begin_jobs()


onsuccess:
    end_of_success(log)


onerror:
    end_of_failure(log)
