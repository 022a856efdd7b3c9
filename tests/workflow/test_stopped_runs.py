"""A run that is stopped by a signal says so, releases its lock and can be gone on with."""

import signal
from pathlib import Path
from typing import Any

import pytest
from support.killed_runs import run_of
from support.margins import configuration
from support.small_skies import small_catalog
from support.workflow_runs import TIME_LIMIT, run_workflow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    catalog = small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=2000, max_rows=100)
    return configuration(catalog, partitions_per_job=8)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_stopped_says_so_and_is_gone_on_with(
    tmp_path: Path, config: dict[str, Any], number: signal.Signals
):
    with run_of(tmp_path, config) as run:
        run.wait_for(lambda: run.workers("map_partitions.py"))
        run.main.send_signal(number)
        assert run.main.wait(TIME_LIMIT) == 1
    said = (tmp_path / "killed.log").read_text()
    assert f"\nstopped by {number.name}. What is done is kept; give the same command again" in said
    assert "error: " not in said
    assert "Correct the cause" not in said
    again = run_workflow(tmp_path)  # which needs no --unlock
    assert again.returncode == 0, again.stdout


def test_a_run_under_nohup_does_not_end_with_its_terminal(tmp_path: Path, config: dict[str, Any]):
    with run_of(tmp_path, config, before=("nohup",)) as run:
        run.wait_for(lambda: run.workers("map_partitions.py"))
        run.main.send_signal(signal.SIGHUP)
        assert run.main.wait(TIME_LIMIT) == 0
    assert "stopped by" not in (tmp_path / "killed.log").read_text()
