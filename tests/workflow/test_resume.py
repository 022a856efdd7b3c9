"""A run that is killed at any moment goes on where it was, and its margin has the same bytes."""

import random
import shlex
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin import finish, output
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import save_margin
from margin_cache.margin.prepare import prepare_margins
from margin_cache.storage.files import atomic_path
from support.faulty_margins import make_in
from support.killed_runs import SCRIPTS, resume, run_of
from support.margins import NAME, Digests, configuration, margin_digests, remains
from support.once import once
from support.small_skies import small_catalog
from support.workflow_runs import TIME_LIMIT, plain, run_workflow, without_snakemake, write_config

KILLS = 12
TESTS_OF_KILLS = 4


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(directory: Path) -> None:
        directory.mkdir()
        small_catalog(directory / "sky", rows=20_000, max_rows=1000)

    return once(tmp_path_factory, "resumed_sky", make) / "sky"


@pytest.fixture(scope="module")
def config(catalog: Path) -> dict[str, Any]:
    return configuration(catalog, partitions_per_job=20)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]
) -> tuple[Digests, float]:
    """Digests of the margin of a run that nothing interrupts, and the time that it takes [s]."""

    def make(directory: Path) -> None:
        start = time.monotonic()
        run_workflow(directory, config=config, check=True)
        (directory / "seconds").write_text(str(time.monotonic() - start))

    directory = once(tmp_path_factory, "resumed", make)
    seconds = float((directory / "seconds").read_text())
    digests = margin_digests(directory)
    assert len(digests) > 40
    assert remains(directory) == []
    return digests, seconds


# --- kills ----------------------------------------------------------------------------------


def kill_once(directory: Path, config: dict[str, Any], seconds: float, rng: random.Random) -> None:
    """Start a run, kill it or a part of it at a random moment, resume it while orphans go on."""
    how = rng.choice(("group", "main", "worker"))
    moment = rng.uniform(0.0, seconds)
    with run_of(directory, config) as run:
        run.wait_for(lambda: time.monotonic() - run.start >= moment)
        late = not run.runs()
        if how == "group":
            run.kill_group()
        elif how == "main":
            run.kill_main()
        else:
            run.kill_worker(rng)
        orphans = sum(process.is_running() for process in run.family)
        print(f"{how} killed after {moment:.2f} s of {seconds:.2f} s, {late=}, {orphans=}")
        resume(directory)
        directly = margin_digests(directory)
        run.wait_for_orphans()
        assert margin_digests(directory) == directly


@pytest.mark.parametrize(
    "seed",
    [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, TESTS_OF_KILLS))],
)
def test_a_run_killed_at_random_moments_makes_the_same_bytes(
    tmp_path: Path, config: dict[str, Any], whole: tuple[Digests, float], seed: int
):
    print(f"{seed=}")
    rng = random.Random(seed)
    for number in range(KILLS // TESTS_OF_KILLS):
        directory = tmp_path / str(number)
        # Every second run has one reduce job, which finishes the margin too.
        jobs = {"partitions_per_job": 10**4} if number % 2 else {}
        kill_once(directory, config | jobs, whole[1], rng)
        assert margin_digests(directory) == whole[0]
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("script", "partitions"), [*((script, 20) for script in SCRIPTS), ("reduce_margins.py", 10**4)]
)
def test_a_job_that_outlives_its_run_does_no_harm(
    tmp_path: Path,
    config: dict[str, Any],
    whole: tuple[Digests, float],
    script: str,
    partitions: int,
):
    with run_of(tmp_path, {**config, "partitions_per_job": partitions}) as run:
        run.wait_for(lambda: run.workers(script))
        (late, *_) = run.workers(script)
        late.suspend()
        run.kill_main()
        resume(tmp_path)
        assert margin_digests(tmp_path) == whole[0]
        late.resume()
        run.wait_for_orphans()
    assert margin_digests(tmp_path) == whole[0]
    resume(tmp_path)  # deletes a shard that the job has written
    assert "Nothing to be done" in resume(tmp_path)
    assert margin_digests(tmp_path) == whole[0]
    # A late shard may lie among the intermediate files; nothing lies beside the margin.
    assert [path.name for path in (tmp_path / "results").iterdir()] == [NAME]


# --- what is left behind --------------------------------------------------------------------


def half_write(path: Path) -> Path:
    """Leave what a job leaves that is killed while it writes a file; return where it is."""
    with suppress(KeyboardInterrupt), atomic_path(path) as temporary:
        raise KeyboardInterrupt
    temporary.write_bytes(b"half of a file")
    return temporary


def test_a_resumed_run_deletes_the_half_written_files_of_the_killed_one(
    tmp_path: Path, config: dict[str, Any], whole: tuple[Digests, float]
):
    with run_of(tmp_path, config) as run:
        # A file is written in a moment, and may be missed; the last job is not.
        run.wait_for(
            lambda: (
                list(tmp_path.glob("intermediate/*/*/*/*.tmp")) or run.workers("finish_margin.py")
            )
        )
        run.kill_group()
    (work,) = (path.parent for path in tmp_path.glob("intermediate/*/*/plan.npz"))
    job = f"{'0' * 5}-{'0' * 10}"
    for path in (
        work.parent / "margin.json",
        work / "plan.npz",
        work / "receipts" / f"{job}.json",
        work / "shards" / f"{job}.arrow",
    ):
        half = half_write(path)
        assert half.relative_to(tmp_path).as_posix() in remains(tmp_path)
        for name in (".notes", "notes.txt"):
            half.with_name(name).touch()
    others = {
        path
        for path in work.parent.rglob("*")
        if path.is_file() and path.suffix != ".tmp" and path.parent.name != "shards"
    }
    resume(tmp_path)
    assert margin_digests(tmp_path) == whole[0]
    assert remains(tmp_path) == []
    assert sorted(path for path in others if not path.exists()) == []


def test_a_run_killed_before_its_shards_are_deleted_leaves_none_when_resumed(
    tmp_path: Path, config: dict[str, Any], whole: tuple[Digests, float]
):
    with run_of(tmp_path, {**config, "delete_intermediate_parquet_files": False}) as run:
        run.wait_for(lambda: run.workers("finish_margin.py"))
        run.kill_group()
    write_config(tmp_path, config)
    resume(tmp_path)
    assert margin_digests(tmp_path) == whole[0]
    assert remains(tmp_path) == []


def test_shards_are_kept_if_wanted_and_those_of_older_plans_are_deleted_if_not(
    tmp_path: Path, catalog: Path
):
    config = configuration(catalog, overwrite=True)
    kept = {"delete_intermediate_parquet_files": False}
    make_in(tmp_path, {**config, **kept})
    first = list(tmp_path.glob("intermediate/*/*/shards/*.arrow"))
    assert first
    assert [path.suffix for path in first] == [Path(name).suffix for name in remains(tmp_path)]
    make_in(tmp_path, {**config, **kept, "margin_threshold": 30.0})
    assert len(list(tmp_path.glob("intermediate/*/*/shards/*.arrow"))) == 2 * len(first)
    make_in(tmp_path, {**config, "margin_threshold": 10.0})
    assert remains(tmp_path) == []
    assert len(list(tmp_path.glob("intermediate/*/*/plan.npz"))) == 1


# --- two copies of a job --------------------------------------------------------------------


def test_two_copies_of_a_job_at_once_do_no_harm(
    tmp_path: Path,
    catalog: Path,
    whole: tuple[Digests, float],
    monkeypatch: pytest.MonkeyPatch,
):
    config = configuration(catalog, partitions_per_job=30)
    with monkeypatch.context() as context:
        context.chdir(tmp_path)
        for margin in prepare_margins(settings_of_margins(plain(config))):
            save_margin(margin)
            margin.files.staging_dir.mkdir(parents=True)
    listed = run_workflow(tmp_path, "-n", "--printshellcmds", config=config, check=True).stdout
    for script in SCRIPTS[:2]:
        lines = sorted(
            {line for line in listed.splitlines() if f"{script} --" in line and " --job " in line}
        )
        assert len(lines) > 1
        for line in lines:
            words = shlex.split(line)
            at = next(number for number, word in enumerate(words) if word.endswith(script))
            command = words[at - 1 : words.index("2>")]
            copies = [subprocess.Popen(command, cwd=tmp_path) for _ in range(2)]
            assert [copy.wait(TIME_LIMIT) for copy in copies] == [0, 0]
    last = run_workflow(tmp_path, check=True).stdout
    assert "finish_margin" in last
    assert margin_digests(tmp_path) == whole[0]


@pytest.mark.parametrize(
    ("module", "step"),
    [(finish, "_gather"), (finish, "_write_tables"), (output, "replace_directory")],
)
def test_a_second_finish_waits_for_the_first(
    tmp_path: Path,
    catalog: Path,
    whole: tuple[Digests, float],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    step: str,
):
    monkeypatch.chdir(tmp_path)
    (margin,) = without_snakemake(configuration(catalog))
    original = getattr(module, step)
    second = threading.Thread(target=finish_margin, args=(margin,), daemon=True)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(module, step, original)
        second.start()
        second.join(0.3)
        assert second.is_alive(), "the second did not wait"
        return original(*arguments)

    monkeypatch.setattr(module, step, interrupted)
    finish_margin(margin)
    second.join(TIME_LIMIT)
    assert not second.is_alive()
    assert margin_digests(tmp_path) == whole[0]


# --- the margin that is replaced ------------------------------------------------------------


def test_an_older_margin_stays_until_the_new_one_is_complete(
    tmp_path: Path, config: dict[str, Any], whole: tuple[Digests, float]
):
    older = {**config, "margin_threshold": 30.0, "partitions_per_job": "auto"}
    make_in(tmp_path, older)
    old = margin_digests(tmp_path)
    assert old != whole[0]
    refused = run_workflow(tmp_path, config=config)
    assert refused.returncode
    assert "overwrite: true" in refused.stdout
    for script in SCRIPTS:
        with run_of(tmp_path, {**config, "overwrite": True}) as run:
            run.wait_for(lambda script=script: run.workers(script))
            assert run.runs(), (tmp_path / "killed.log").read_text()
            run.kill_group()
        run_workflow(tmp_path, "--unlock", check=True)
        assert margin_digests(tmp_path) == old
    resume(tmp_path)
    assert margin_digests(tmp_path) == whole[0]
    assert remains(tmp_path) == []


def test_a_run_killed_between_the_two_renames_of_the_last_step_is_resumed(
    tmp_path: Path, catalog: Path, whole: tuple[Digests, float], monkeypatch: pytest.MonkeyPatch
):
    config = configuration(catalog, overwrite=True)
    make_in(tmp_path, {**config, "margin_threshold": 30.0})
    write_config(tmp_path, config)
    monkeypatch.chdir(tmp_path)
    (margin,) = without_snakemake(config)

    def killed(new: Path, target: Path, old: Path, *others: Any) -> None:
        target.rename(old)
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "replace_directory", killed)
    with pytest.raises(KeyboardInterrupt):
        finish_margin(margin)
    resume(tmp_path)
    assert margin_digests(tmp_path) == whole[0]
    assert remains(tmp_path) == []
