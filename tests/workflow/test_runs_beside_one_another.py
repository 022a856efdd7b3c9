"""Runs at the same time, or with the same directories, do not harm one another."""

from pathlib import Path

import pytest
from support.killed_runs import run_of
from support.margins import NAME, configuration, margin_digests, tree_digest
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow, write_config

COMMANDS = (["-n"], ["--summary"], ["--lint"], ["--unlock"], ["--list-rules"], ["--dag"])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=1500, max_rows=200)


def files_of(directory: Path) -> dict[str, str]:
    digests = tree_digest(directory)
    return {path: digest for path, digest in digests.items() if not path.startswith(".snakemake")}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_commands_that_run_no_jobs_write_nothing(
    tmp_path: Path, catalog: Path, command: list[str]
) -> None:
    write_config(tmp_path, configuration(catalog))
    before = files_of(tmp_path)
    assert "Traceback" not in run_workflow(tmp_path, *command).stdout
    assert files_of(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".snakemake") == [
        "config"
    ]


def test_a_dry_run_does_not_disturb_a_run_at_work(tmp_path: Path, catalog: Path) -> None:
    """With other settings, as one tries them while the first is on."""
    with run_of(tmp_path, configuration(catalog, partitions_per_job=10)) as run:
        run.wait_for(lambda: list(tmp_path.glob("intermediate/*/*/shards/*.arrow")))
        with run.held():
            for changes in ("partitions_per_job=2", f"output_path={tmp_path / 'elsewhere'}"):
                dry = run_workflow(tmp_path, "-n", "--config", changes)
                assert dry.returncode == 0, dry.stdout
            assert run.runs()
        run.main.wait()
    assert run.main.returncode == 0, (tmp_path / "killed.log").read_text()
    assert (tmp_path / "results" / NAME / "provenance_info.json").exists()


@pytest.mark.parametrize("shared", [pytest.param("tmp_dir", marks=pytest.mark.long), "output_path"])
def test_a_second_run_for_the_same_margin_is_refused_and_names_the_first(
    tmp_path: Path, catalog: Path, shared: str
) -> None:
    """From another working directory, with other parameters, or with another output directory."""
    first, second = tmp_path / "first", tmp_path / "second"
    config = configuration(catalog, partitions_per_job=10)
    config |= {"tmp_dir": tmp_path / "tmp", "output_path": tmp_path / "results"}
    first.mkdir()
    with run_of(first, config) as run:
        run.wait_for(lambda: list(tmp_path.glob("tmp/*/*/shards/*.arrow")))
        if shared == "tmp_dir":
            other = config | {"output_path": tmp_path / "others"}
        else:
            other = config | {"tmp_dir": tmp_path / "own", "margin_threshold": 61}
        with run.held():
            refused = run_workflow(second, config=other)
            assert run.runs()
        assert refused.returncode == 1
        error = refused.stdout.splitlines()[-1]
        made = tmp_path / "results" / NAME
        assert error.startswith(f"error: {made} is being made by another run")
        assert f"process {run.main.pid} on " in error and str(first) in error
        assert "Traceback" not in refused.stdout
        run.main.wait()
    assert run.main.returncode == 0, (first / "killed.log").read_text()
    whole = margin_digests(tmp_path)
    if shared == "tmp_dir":
        run_workflow(second, check=True)
        assert margin_digests(tmp_path) == whole
        assert tree_digest(tmp_path / "others" / NAME).keys() == {*whole, "provenance_info.json"}


def test_margins_whose_names_begin_alike_are_made_in_one_run(tmp_path: Path, catalog: Path) -> None:
    names = ["gaia", "gaia.wide", "gaia.wide.more"]
    config = configuration(catalog, partitions_per_job=25)
    config["margins"] = [{"output_artifact_name": name} for name in names]
    run_workflow(tmp_path, config=config, check=True)
    digests = [margin_digests(tmp_path, name) for name in names]
    assert digests[0].keys() == digests[1].keys() == digests[2].keys()
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == names
