"""scripts/resume_run.py goes on with a run that was killed, and leaves a live one alone."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.margins import tree_digest
from support.paths import ROOT
from support.signals import default_signals
from support.small_skies import small_catalog
from support.workflow_runs import SNAKEMAKE, run_workflow, write_config

RESUME = ROOT / "scripts/resume_run.py"


def resume(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = [*options, "-s", ROOT / "Snakefile", "--directory", directory, "--cores", "2"]
    return subprocess.run(
        [str(part) for part in (sys.executable, RESUME, *arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    catalog = small_catalog(tmp_path / "sky", rows=3000, max_rows=500)
    config = {"input_catalog_path": catalog, "output_artifact_name": "margin"}
    write_config(tmp_path / "run", {**config, "partitions_per_job": 3})
    return tmp_path / "run"


def test_a_killed_run_is_unlocked_and_finished_but_not_a_live_one(directory: Path):
    command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "--directory", directory, "--cores", "1"]
    with (directory / "log").open("w") as log:
        run = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=default_signals,
        )
    try:
        while run.poll() is None and not list(directory.glob("intermediate/*/*/shards/*.arrow")):
            time.sleep(0.01)
        refused = resume(directory)
        assert refused.returncode == 1
        assert f"the run is alive, as process {run.pid}" in refused.stdout
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert run_workflow(directory).returncode, "there is no lock"
    resumed = resume(directory)
    assert resumed.returncode == 0, resumed.stdout
    made = tree_digest(directory / "results/margin")
    assert "catalog_info.json" in made
    assert "Nothing to be done" in resume(directory).stdout
    assert tree_digest(directory / "results/margin") == made


def test_a_run_started_on_another_machine_needs_confirmation(directory: Path):
    run_workflow(directory, "--until", "map_partitions", check=True)
    log = max((directory / ".snakemake/log").glob("*.log"))
    written = log.read_text()
    assert f"Host: {platform.node()}\n" in written
    log.write_text(written.replace(platform.node(), "login-7"))
    (directory / ".snakemake/locks").mkdir(exist_ok=True)
    (directory / ".snakemake/locks/0.input.lock").write_text("a\n")
    (directory / ".snakemake/locks/0.output.lock").write_text("b\n")
    refused = resume(directory)
    assert refused.returncode == 1
    assert "the run was started on login-7" in refused.stdout
    resumed = resume(directory, "--from-elsewhere")
    assert resumed.returncode == 0, resumed.stdout
    assert (directory / "results/margin").is_dir()
