"""Each undocumented attribute of Snakemake has an answer where it is missing."""

import gc
import threading
import time
from pathlib import Path
from types import SimpleNamespace as Workflow

import pytest
from margin_cache.run import compat


@pytest.fixture(autouse=True)
def plain_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["snakemake", "--cores", "2"])


def test_an_ordinary_run_is_assumed_where_snakemake_does_not_say() -> None:
    unknown = Workflow()
    assert compat.is_main_process(unknown)
    assert not compat.is_dry_run(unknown)
    assert not compat.only_describes(unknown)
    assert not compat.forces_all(unknown)
    assert compat.config_files(unknown) == []
    assert not compat.uses_conda(unknown)


def test_the_command_line_serves_where_snakemake_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["snakemake", "-n", "--forceall"])
    assert compat.is_dry_run(Workflow())
    assert compat.forces_all(Workflow())
    monkeypatch.setattr("sys.argv", ["snakemake", "--mode", "subprocess"])
    assert not compat.is_main_process(Workflow())


def test_snakemakes_own_answers_come_first() -> None:
    assert not compat.is_main_process(Workflow(is_main_process=False))
    assert compat.is_dry_run(Workflow(dryrun=True))
    assert compat.only_describes(Workflow(execution_settings=None))
    assert compat.forces_all(Workflow(dag_settings=Workflow(forceall=True)))
    conda = Workflow(deployment_method=[Workflow(name="CONDA")])
    assert compat.uses_conda(Workflow(deployment_settings=conda))


def test_deleting_all_output_is_not_a_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["snakemake", "--delete-all-output"])
    assert not compat.only_describes(Workflow(execution_settings=None))


def test_files_of_the_command_line_override_those_of_the_workflow() -> None:
    settings = Workflow(configfiles=["mine.yaml"], replace_workflow_config=False)
    workflow = Workflow(config_settings=settings, configfiles=["own.yaml", Path("mine.yaml")])
    assert compat.config_files(workflow) == [Path("own.yaml"), Path("mine.yaml")]
    settings.replace_workflow_config = True
    assert compat.config_files(workflow) == [Path("mine.yaml")]


def test_timers_end_at_once() -> None:
    timer = threading.Timer(60, time.sleep, [0])
    timer.start()
    compat.end_timers()
    timer.join(10)
    assert not timer.is_alive()


def test_imported_modules_are_not_searched_for_garbage() -> None:
    before = gc.get_freeze_count()
    compat.skip_garbage()
    assert gc.get_freeze_count() > before
    gc.unfreeze()
