"""A run locks the margins that it makes, and tidies up after those that are complete."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing import clean_up, is_complete
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin, load_margin
from margin_cache.margin.prepare import start_margin
from margin_cache.storage.files import delete_directory
from support.full_disks import files_end_at
from support.paths import ROOT
from support.stages import release_locks, run_map_jobs, run_reduce_jobs

BEGIN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from margin_cache.margin.prepare import start_margin
from margin_cache.margin.model import load_margin
start_margin(load_margin(Path(sys.argv[2])))
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """Locks of a test end with it."""
    yield
    release_locks()


@contextmanager
def another_run(margin: Margin) -> Iterator[subprocess.Popen[str]]:
    """Another process that has begun to make a margin."""
    command = [sys.executable, "-c", BEGIN, ROOT / "scripts", margin.files.margin_file]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "begun\n"
        try:
            yield run
        finally:
            run.kill()


@pytest.mark.parametrize("same", [True, False])
def test_an_older_margin_that_a_killed_run_had_moved_away_is_restored(
    prepare: Callable[..., Margin], same: bool
) -> None:
    """Or the next run would delete it; it may be one that must not be replaced."""
    older = prepare(margin_threshold=300.0)
    run_map_jobs(older)
    run_reduce_jobs(older)
    finish_margin(older)
    margin = older if same else prepare(margin_threshold=301.0)
    output_dir = older.files.output_dir
    output_dir.rename(margin.files.backup_dir)
    if same:
        start_margin(margin)
        assert is_complete(margin)
    else:
        with pytest.raises(MarginCacheError, match=r"margin_threshold 300.0, not 301.0"):
            start_margin(margin)
        assert is_complete(older)
    assert not margin.files.backup_dir.exists()


def test_a_partly_deleted_older_margin_is_not_restored(
    prepare: Callable[..., Margin], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run leaves it that is killed while it deletes it, the new one being there."""
    margin = prepare(margin_threshold=300.0)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    finish_margin(margin)
    margin.files.output_dir.rename(margin.files.backup_dir)
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        delete_directory(margin.files.backup_dir)
    (half,) = margin.files.left_behind()
    next(half.rglob("Npix=*")).unlink()
    start_margin(margin)
    assert not margin.files.output_dir.exists()
    clean_up(margin, margin.files.staging_lock)
    assert margin.files.left_behind() == []


def test_a_margin_that_another_run_makes_is_refused_with_a_line_that_names_it(
    prepare: Callable[..., Margin], tmp_path: Path
) -> None:
    margin = prepare()
    with another_run(margin) as run:
        with pytest.raises(MarginCacheError, match=f"another run .process {run.pid} on ") as caught:
            start_margin(margin)
        assert str(tmp_path) in str(caught.value)
    start_margin(margin)


def test_the_same_margin_with_other_parameters_is_refused_too(
    prepare: Callable[..., Margin], tmp_path: Path
) -> None:
    """Also with a tmp_dir of its own."""
    margin = prepare()
    other = prepare(margin_threshold=61, tmp_dir=str(tmp_path / "own"))
    assert other.files.output_dir == margin.files.output_dir
    with another_run(margin) as run:
        with pytest.raises(MarginCacheError, match=f"another run .process {run.pid} on "):
            start_margin(other)
        assert not other.files.staging_dir.exists()
    start_margin(other)


def test_a_tmp_dir_in_use_for_another_output_path_is_refused(
    prepare: Callable[..., Margin], tmp_path: Path
) -> None:
    """The line names what the other run makes, not what nobody is at work at."""
    other = prepare(output_path=str(tmp_path / "others"))
    same_place = prepare(output_path=str(Path("results").absolute()))
    margin = prepare()
    assert other.files.plan_dir == margin.files.plan_dir
    with another_run(margin) as run:
        with pytest.raises(MarginCacheError) as caught:
            start_margin(other)
        said = str(caught.value)
        assert said.startswith(
            f"{margin.files.output_dir.absolute()} is being made by another run (process {run.pid}"
        )
        assert str(tmp_path / "others") not in said
        assert not other.files.staging_dir.exists()
        with pytest.raises(MarginCacheError, match="is being made by another"):
            start_margin(same_place)
    start_margin(other)


def test_another_margin_can_be_made_at_the_same_time(prepare: Callable[..., Margin]) -> None:
    with another_run(prepare()):
        start_margin(prepare(output_artifact_name="margin.wide"))


def test_files_that_another_run_has_locked_are_not_deleted(prepare: Callable[..., Margin]) -> None:
    """Of one for the same place, with other parameters."""
    margin = prepare()
    other = prepare(margin_threshold=61)
    assert other.intermediate_dir == margin.intermediate_dir
    with another_run(other):
        clean_up(margin)
        assert load_margin(other.files.margin_file).name == other.name
    clean_up(margin)
    assert not other.files.plan_dir.exists()


def test_files_of_a_run_with_another_tmp_dir_are_not_deleted(
    prepare: Callable[..., Margin], tmp_path: Path
) -> None:
    """It has another tmp_dir, and so another lock of the plan, but the same staging directory."""
    margin = prepare()
    other = prepare(tmp_dir=str(tmp_path / "own"))
    assert other.files.staging_dir == margin.files.staging_dir
    with another_run(other):
        clean_up(margin)
        assert margin.files.staging_lock.exists()
    clean_up(margin)
    assert not margin.files.staging_dir.exists()


def test_locks_of_a_killed_run_are_released(prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    with another_run(margin) as run:
        run.kill()
    assert margin.files.plan_lock.exists()
    start_margin(margin)


def test_a_full_disk_is_reported_with_the_plan(prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    margin.files.plan.unlink()
    said = f"{margin.files.plan}: cannot be written .File too large."
    with pytest.raises(MarginCacheError, match=said), files_end_at(1000):
        start_margin(margin)
    assert not margin.files.plan.exists()


def test_a_directory_that_cannot_be_made_is_named(prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    Path("results").touch()
    with pytest.raises(MarginCacheError, match=r"results.*: cannot be written \("):
        start_margin(margin)
