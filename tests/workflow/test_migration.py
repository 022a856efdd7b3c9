"""docs/migration.md: its command makes what it says, and its table has all arguments and keys."""

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hats import read_hats
from margin_cache.config.model import MarginSettings, RunSettings
from margin_cache.config.validation import check_keys
from margin_cache.errors import MarginCacheError
from support import skies
from support.margins import partition_paths
from support.paths import ROOT
from support.typed_tables import light_curve_table
from support.workflow_runs import run_workflow
from support.write_hats import write_hats

TEXT = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
KEYS = {*MarginSettings.__annotations__, *RunSettings.__annotations__}
# Those of MarginCacheArguments, in hats-import 0.11.1 and in hipscat-import 0.3.5.
ARGUMENTS = (
    *("output_path", "output_artifact_name", "addl_hats_properties", "npix_suffix"),
    *("npix_parquet_name", "write_table_kwargs", "row_group_kwargs", "should_write_skymap"),
    *("skymap_alt_orders", "create_thumbnail", "create_metadata", "create_per_partition_stats"),
    *("create_skymap_png", "create_partition_info_png", "create_summary_html"),
    *("create_summary_md", "tmp_dir", "resume", "progress_bar", "simple_progress_bar"),
    *("tqdm_kwargs", "dask_tmp", "dask_n_workers", "dask_threads_per_worker", "resume_tmp"),
    *("delete_intermediate_parquet_files", "delete_resume_log_files"),
    *("completion_email_address", "catalog_path", "tmp_path", "tmp_base_path"),
    *("margin_threshold", "margin_order", "fine_filtering", "input_catalog_path"),
    *("debug_filter_pixel_list", "input_storage_options", "output_storage_options"),
)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_each_argument_of_the_importers_is_a_key_or_explained(name: str) -> None:
    table = re.search(r"^\| argument .*?\n\n", TEXT, re.M | re.S)
    assert table
    rows = [row for row in table[0].strip().splitlines() if f"`{name}`" in row.split("|")[1]]
    assert len(rows) == 1
    if name in KEYS:
        return
    with pytest.raises(MarginCacheError) as caught:
        check_keys({name: 1}, KEYS, "")
    says_what_serves = "unknown key" not in str(caught.value)
    assert says_what_serves == ("refused, with a line" in rows[0])


def test_the_command_in_the_migration_guide_makes_the_margin(tmp_path: Path) -> None:
    table = light_curve_table(600, 1)
    ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
    partitions = skies.adaptive_partitions(ra, dec, max_rows=200)
    write_hats(tmp_path / "data", "gaia", table, partitions)
    commands = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    (command,) = [command for command in commands if command.startswith("snakemake ")]
    for path in ("/data", "/scratch"):
        command = command.replace(f"={path}", f"={tmp_path}{path}")
    # No mail: there is no server to send it. And at 10 arcsec there would be no row.
    words = [
        word
        for word in shlex.split(command.replace("\\\n", ""))
        if not word.startswith("completion_email")
    ]
    words[words.index("margin_threshold=10.0")] = "margin_threshold=3600.0"
    assert words[:3] == ["snakemake", "--cores", "4"]
    run_workflow(tmp_path, *words[3:], check=True)
    margin = tmp_path / "data" / "margins" / "gaia_10arcs"
    info = read_hats(margin).catalog_info
    assert (info.npix_suffix, info.margin_threshold) == ("/", 3600.0)
    assert "obs_copyright=ESA" in (margin / "hats.properties").read_text()
    assert (margin / "README.md").exists()
    files = partition_paths(margin)
    assert files
    for file in files:
        assert pq.read_metadata(file).row_group(0).column(0).compression == "GZIP"
