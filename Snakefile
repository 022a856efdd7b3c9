import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

BASE = Path(str(workflow.current_basedir))
sys.path.insert(0, str(BASE / "scripts"))

from margin_cache.errors import MarginCacheError
from margin_cache.settings import settings_of_margins


if Path("config/config.yaml").exists():

    configfile: "config/config.yaml"


include: "workflow/rules/plan.smk"
include: "workflow/rules/map.smk"
include: "workflow/rules/reduce.smk"
include: "workflow/rules/finish.smk"


rule all:
    default_target: True
    input:
        [str(place) for place in targets()],


onsuccess:
    print(summary())


onerror:
    print(how_to_resume())
