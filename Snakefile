# Margin caches of HiPSCat and HATS catalogs; config/README.md describes the configuration.
import inspect
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.8")

# The Snakefile may be a link; the scripts lie beside the file itself.
FILE = Path(inspect.currentframe().f_code.co_filename)
BASE = FILE.resolve().parent
IS_MODULE = Path(workflow.basedir).resolve() not in (
    BASE,
    BASE / "workflow",
    FILE.parent.resolve(),
)

if not (BASE / "scripts" / "margin_cache").is_dir():
    sys.exit(
        f"error: {FILE} has no scripts/margin_cache beside it; clone the whole repository, and give "
        "the path of the Snakefile in the clone"
    )

if Path("config/config.yaml").exists():

    configfile: "config/config.yaml"


include: str(BASE / "workflow/rules/common.smk")
include: str(BASE / "workflow/rules/margin.smk")
include: str(BASE / "workflow/rules/audit.smk")
include: str(BASE / "workflow/rules/report.smk")


rule all:
    default_target: True
    input:
        session.targets,
        reports.existing_pages,


# Some versions of Snakemake would give the handlers of a module to the workflow that uses it.
if not IS_MODULE:

    onstart:
        on_start()

    onsuccess:
        on_success(log)

    onerror:
        on_error(log)
