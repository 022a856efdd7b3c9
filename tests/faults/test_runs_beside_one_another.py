"""Every pair of commands that a user may give at the same time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.faults import CLEAR_ERROR, Tally, outcome_after, outcome_of_error, sample
from support.faulty_margins import make_in
from support.killed_runs import resume, run_of
from support.margins import configuration, margin_digests, remains
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

COMMANDS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "the same": ([], {}),
    "dry run": (["-n"], {}),
    "dry run of another threshold": (["-n"], {"margin_threshold": 61.0}),
    "dry run of other jobs": (["-n"], {"partitions_per_job": 3}),
    "summary": (["--summary"], {}),
    "unlock": (["--unlock"], {}),
    "lint": (["--lint"], {}),
    "another threshold": ([], {"margin_threshold": 61.0}),
    "another threshold, overwrite": ([], {"margin_threshold": 61.0, "overwrite": True}),
    "other jobs": ([], {"partitions_per_job": 3}),
    "another name": ([], {"output_artifact_name": "other"}),
    "a longer name": ([], {"output_artifact_name": "margin.wide"}),
    "forced": (["--forceall"], {}),
    "cleanup": (["--cleanup-metadata", "results"], {}),
    "touch": (["--touch"], {}),
    "delete output": (["--delete-all-output"], {}),
}
PLACES = ("one directory", "two directories", "two directories, one tmp_dir")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=1500, max_rows=200)


@pytest.fixture(scope="module")
def whole(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[float, dict[str, str]]:
    """Digests of the margins of both thresholds."""
    found = {}
    for threshold in (60.0, 61.0):
        directory = tmp_path_factory.mktemp("whole")
        make_in(directory, configuration(catalog, margin_threshold=threshold))
        found[threshold] = margin_digests(directory)
    return found


def test_a_second_command_harms_neither_the_first_nor_itself(
    catalog: Path, whole: dict[float, dict[str, str]], tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("runs beside one another")
    cases = [(command, place) for command in COMMANDS for place in PLACES]
    for number, (command, place) in enumerate(sample(cases, 1, "pairs")):
        root = tmp_path / str(number)
        first = root / "first"
        second = first if place == "one directory" else root / "second"
        first.mkdir(parents=True)
        second.mkdir(exist_ok=True)
        config = configuration(catalog, partitions_per_job=4, output_path=first / "results")
        if "tmp_dir" in place:
            config["tmp_dir"] = root / "tmp"
        arguments, changes = COMMANDS[command]
        with run_of(first, config) as run:
            run.wait_for(lambda root=root: list(root.glob("**/shards/*.arrow")))
            words = [f"{key}={value}" for key, value in {**config, **changes}.items()]
            other = run_workflow(second, *arguments, "--config", *words)
            run.main.wait()
            said = (first / "killed.log").read_text()
            outcome = "" if run.main.returncode == 0 else outcome_of_error(said)
            if command == "delete output" and "missing locally" in said:
                outcome = CLEAR_ERROR  # in Snakemake's words, and as ordered
            if run.main.returncode == 0 and other.returncode and command != "unlock":
                # The second was refused, in Snakemake's words or with our line.
                theirs = "lock" in other.stdout.lower() or "clean up metadata" in other.stdout
                outcome = CLEAR_ERROR if theirs else outcome_of_error(other.stdout)

        def right(first: Path = first, catalog: Path = catalog) -> None:
            digests = margin_digests(first)
            assert digests in (*whole.values(), {}), "a mixture of two margins"
            resume(first)
            assert margin_digests(first) in whole.values()
            assert remains(first) == []

        counted.add(f"{command}, {place}", outcome_after(outcome, right))
