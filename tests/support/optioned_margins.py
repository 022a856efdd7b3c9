"""Margins of one catalog with the options of hats-import, each with one of them."""

from pathlib import Path
from typing import Any

from support import skies
from support.faulty_margins import make_in
from support.typed_tables import light_curve_table
from support.workflow_runs import run_workflow
from support.write_hats import write_hats

THRESHOLD = 1800.0
FURTHER = {
    "create_thumbnail": "data_thumbnail.parquet",
    "create_per_partition_stats": "per_partition_statistics.parquet",
    "create_partition_info_png": "partition_info.png",
    "create_summary_html": "index.html",
    "create_summary_md": "README.md",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "suffix": {"npix_suffix": ".pq"},
    "directories": {"npix_suffix": "/"},
    "named": {"npix_suffix": "/", "npix_parquet_name": "part0.parquet"},
    "properties": {
        "addl_hats_properties": {
            "obs_copyright": "CDS: a=b",
            "hats_cols_default": "ra dec",
        }
    },
    "written": {
        "write_table_kwargs": {
            "compression": "gzip",
            "row_group_size": 3,
            "column_encoding": {"ra": "PLAIN"},
        }
    },
    "further": {key: True for key in FURTHER},
    "further_empty": {"margin_threshold": 0.001, **{key: True for key in FURTHER}},
}


THROUGH_WORKFLOW = ("plain", "named", "further_empty")


def make_margins(directory: Path) -> None:
    table = light_curve_table(3000, 1)
    ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
    partitions = skies.adaptive_partitions(ra, dec, max_rows=400)
    write_hats(directory, "sky", table, partitions)
    margins = [{"output_artifact_name": name, **given} for name, given in OPTIONS.items()]
    config = {"input_catalog_path": "sky", "margin_threshold": THRESHOLD}
    # A few go through the workflow, and all others only through its functions.
    whole = [margin for margin in margins if margin["output_artifact_name"] in THROUGH_WORKFLOW]
    others = [margin for margin in margins if margin not in whole]
    run_workflow(directory, config={**config, "margins": whole}, check=True)
    make_in(directory, {**config, "margins": others})
