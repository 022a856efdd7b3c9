"""Jobs that wait for ever are told from those that wait for their turn."""

from pathlib import Path

import pytest
from margin_cache.cluster.queue import cancel_run, hopeless_jobs, parse_hopeless

LISTED = """\
11|PartitionTimeLimit
12|Resources
13|MaxMemPerLimit
14|Priority
15|QOSMaxJobsPerUserLimit
16|(launch failed requeued held)
17|None
"""


def fake(directory: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of SLURM in the place of all others."""
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


def test_only_reasons_that_no_waiting_changes_are_hopeless() -> None:
    assert parse_hopeless(LISTED) == {"11": "PartitionTimeLimit", "13": "MaxMemPerLimit"}


def test_the_jobs_of_one_run_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "squeue", 'echo "$*" >&2; echo "7|BadConstraints"', monkeypatch)
    assert hopeless_jobs("run-1") == {"7": "BadConstraints"}


def test_a_queue_that_cannot_be_seen_has_no_hopeless_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, "squeue", "exit 1", monkeypatch)
    assert hopeless_jobs("run-1") == {}


def test_the_jobs_of_a_run_are_cancelled_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake(tmp_path, "scancel", f'echo "$*" > {tmp_path}/said; exit 1', monkeypatch)
    monkeypatch.setenv("LOGNAME", "me")
    cancel_run("run-1")
    assert (tmp_path / "said").read_text() == "--user=me --name=run-1\n"
    (tmp_path / "scancel").unlink()
    cancel_run("run-1")
    assert capfd.readouterr().out.startswith("warning: scancel ")
