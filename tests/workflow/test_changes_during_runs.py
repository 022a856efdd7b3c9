"""What changes while a run is on, the catalog's columns or the library itself, is not ignored."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from support.killed_runs import run_of
from support.margins import NAME, configuration
from support.paths import ROOT
from support.small_skies import small_catalog
from support.workflow_runs import SNAKEMAKE, fork_snakemake

NOTHING = "Nothing to be done"


def test_columns_that_change_between_two_reduce_jobs_end_the_run_with_one_line(tmp_path: Path):
    catalog = small_catalog(tmp_path / "sky", rows=1500, max_rows=100)
    common = catalog / "_common_metadata"
    with run_of(tmp_path, configuration(catalog, partitions_per_job=6)) as run:
        run.wait_for(lambda: list(tmp_path.glob("intermediate/*/*/receipts/*.json")))
        schema = pq.read_schema(common).append(pa.field("new", pa.int8()))
        pq.write_metadata(schema, tmp_path / "changed")
        (tmp_path / "changed").replace(common)
        run.main.wait()
    output = (tmp_path / "killed.log").read_text()
    receipts = list(tmp_path.glob("intermediate/*/*/receipts/*.json"))
    partitions = len(list(catalog.rglob("Npix=*.parquet")))
    assert 0 < len(receipts) < partitions / 2
    assert run.main.returncode == 1
    # The last lines say again what jobs have said, and how many.
    errors = {
        re.sub(r" \(\d+ jobs\)$", "", line)
        for line in output.splitlines()
        if line.startswith("error: ")
    }
    assert errors == {
        f"error: {common}: the catalog's columns were changed after the run began. Start the run "
        "again."
    }
    assert not (tmp_path / "results" / NAME).exists()


def test_edited_code_rebuilds_a_margin(tmp_path: Path):
    checkout = tmp_path / "checkout"
    for name in ("scripts", "workflow", "profiles", "demo/hipparcos"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "Snakefile", checkout)
    command = [SNAKEMAKE, "--cores", "2", "-s", checkout / "Snakefile", "-d", tmp_path / "run"]
    command += ["--config", f"input_catalog_path={checkout / 'demo/hipparcos'}"]
    words = [str(word) for word in command]
    assert fork_snakemake(words).returncode == 0
    margin = tmp_path / "run/results/hipparcos_5arcs"
    made = margin.stat().st_ino
    assert NOTHING in fork_snakemake(words).stdout
    module = checkout / "scripts/margin_cache/healpix/boundary.py"
    module.write_text(module.read_text() + "# edited\n")
    again = fork_snakemake(words)
    assert again.returncode == 0
    assert "margin hipparcos_5arcs" in again.stdout and NOTHING not in again.stdout
    assert margin.stat().st_ino != made
    assert NOTHING in fork_snakemake(words).stdout
