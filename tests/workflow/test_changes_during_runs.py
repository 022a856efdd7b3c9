"""A change of the library itself is not ignored in a version in development."""

import shutil
from pathlib import Path

from support.paths import ROOT
from support.workflow_runs import SNAKEMAKE, fork_snakemake

NOTHING = "Nothing to be done"


def test_edited_code_rebuilds_a_margin(tmp_path: Path):
    checkout = tmp_path / "checkout"
    for name in ("scripts", "workflow", "profiles", "demo/hipparcos"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "Snakefile", checkout)
    version = checkout / "scripts/margin_cache/__init__.py"
    version.write_text('__version__ = "9.9.dev0"\n')
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
