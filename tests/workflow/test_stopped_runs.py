"""A run that is stopped by a signal says so, releases its lock and can be gone on with."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.killed_runs import run_of
from support.margins import configuration
from support.paths import ROOT
from support.signals import default_signals
from support.small_skies import small_catalog
from support.workflow_runs import SNAKEMAKE, TIME_LIMIT, run_workflow, write_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    catalog = small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=600, max_rows=100)
    return configuration(catalog, partitions_per_job=8)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_run_says_so_and_can_be_resumed(
    tmp_path: Path, config: dict[str, Any], number: signal.Signals
):
    with run_of(tmp_path, config) as run:
        run.wait_for(lambda: run.workers("map_partitions.py"))
        run.main.send_signal(number)
        assert run.main.wait(TIME_LIMIT) == 1
    said = (tmp_path / "killed.log").read_text()
    assert f"\nstopped by {number.name}. Completed work is kept; " in said
    assert "error: " not in said
    assert "Fix the error" not in said
    again = run_workflow(tmp_path)  # which needs no --unlock
    assert again.returncode == 0, again.stdout


@pytest.mark.parametrize(
    "function",
    ["margin.prepare._plan", "run.session.start_margin", "run.handlers.show_progress"],
    ids=["while the Snakefile is parsed", "before the margins are locked", "before the first job"],
)
def test_a_run_stopped_before_its_first_job_says_so(
    tmp_path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, function: str
):
    """One that waits in a function, by a module that Python loads at its start."""
    module, _, name = function.rpartition(".")
    waiting = tmp_path / "waiting"
    site = tmp_path / "site/sitecustomize.py"
    site.parent.mkdir()
    site.write_text(
        "import pathlib, sys, time\n"
        "def wait(*arguments):\n"
        f"    pathlib.Path({str(waiting)!r}).touch()\n"
        "    while True:\n"
        "        time.sleep(0.1)\n"  # a signal just before a sleep does not end it
        "if any(part.endswith('/snakemake') for part in sys.orig_argv[:2]):\n"
        f"    sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        f"    import margin_cache.{module}\n"
        f"    margin_cache.{module}.{name} = wait\n"
    )
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site.parent))
        with run_of(tmp_path / "run", config) as run:
            run.wait_for(waiting.exists)
            run.main.send_signal(signal.SIGINT)
            assert run.main.wait() == 1
    said = (tmp_path / "run/killed.log").read_text()
    lines = [line for line in said.splitlines() if line.startswith("stopped by ")]
    assert len(lines) == 1 and lines[0].startswith("stopped by SIGINT. Completed work is kept; ")
    assert "Traceback" not in said
    assert not list((tmp_path / "run/.snakemake").glob("locks/*"))


def test_a_run_under_nohup_survives_its_terminal(tmp_path: Path, config: dict[str, Any]):
    write_config(tmp_path, config)
    snakemake = (SNAKEMAKE, "-s", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "2")
    command = [str(word) for word in ("nohup", *snakemake)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=default_signals,
        ) as run,
    ):
        while run.poll() is None and not list(tmp_path.glob("intermediate/*/*/shards/*")):
            time.sleep(0.02)
        run.send_signal(signal.SIGHUP)
        assert run.wait(TIME_LIMIT) == 0
    assert "stopped by" not in (tmp_path / "log").read_text()
