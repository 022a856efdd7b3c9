"""A command makes what it seems to make, or says why not."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from support.full_disks import mounted
from support.margins import margin_digests
from support.paths import ROOT
from support.small_skies import small_catalog
from support.workflow_runs import SNAKEMAKE, TIME_LIMIT, environment, run_workflow, write_config


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=600, max_rows=100)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--config", "margin_threshold=9"), "input_catalog_path: is missing after --config"),
        (
            ("--config", "input_catalog_path=/sky", "--config", "margin_threshold=9"),
            "--config: is given 2 times",
        ),
        (
            ("--workflow-profile", "slrum", "--config", "input_catalog_path=/sky"),
            "--workflow-profile: there is no profile slrum",
        ),
    ],
)
def test_an_incomplete_or_repeated_command_line_is_refused(
    tmp_path: Path, options: tuple[str, ...], words: str
):
    run = run_workflow(tmp_path, *options)
    assert run.returncode == 1
    assert run.stdout.rstrip().splitlines()[-1].startswith(f"error: {words}"), run.stdout
    assert "Traceback" not in run.stdout
    assert not (tmp_path / "results").exists()


def test_a_run_says_what_it_makes_before_it_starts(tmp_path: Path, catalog: Path):
    run = run_workflow(tmp_path, config={"input_catalog_path": catalog}, check=True)
    line = f"making margin sky_5arcs of {catalog} within 5 arcsec in results"
    lines = run.stdout.splitlines()
    assert line in lines
    assert lines.index(line) < lines.index("Job stats:")
    assert "making margin" not in run_workflow(tmp_path, check=True).stdout


@pytest.mark.parametrize(
    ("state", "reason", "used", "options"),
    [
        ("ro", "Read-only file system", True, ()),
        ("ro", "Read-only file system", False, ("--dry-run",)),
        ("full", "No space left on device", False, ()),
        ("full", "No space left on device", True, ("--dry-run",)),
    ],
)
def test_an_unwritable_working_directory_ends_the_run_with_one_line(
    tmp_path: Path, catalog: Path, state: str, reason: str, used: bool, options: tuple[str, ...]
):
    settings = (f"input_catalog_path={catalog}", f"output_path={tmp_path}/results")
    config = ("--config", *settings, f"tmp_dir={tmp_path}/intermediate")
    with mounted(tmp_path / "run", "size=1m") as remount:
        directory = tmp_path / "run"
        if used:
            run_workflow(directory, "--dry-run", *config, check=True)
        if state == "ro":
            remount("ro")
        else:
            with pytest.raises(OSError), (directory / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        run = run_workflow(directory, *options, *config)
        assert run.returncode == 1
        last = run.stdout.rstrip().splitlines()[-1]
        assert last.startswith(f"error: {directory}/.snakemake: ") and f"({reason})" in last
        assert "Traceback" not in run.stdout
        assert run_workflow(directory, "--list", *config).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def command_in(directory: Path) -> list[str]:
    words = (SNAKEMAKE, "-s", ROOT / "Snakefile", "--directory", directory, "--cores", 2)
    return list(map(str, words))


@pytest.mark.parametrize("closed", [pytest.param(">&-", marks=pytest.mark.long), ">&- 2>&-"])
def test_a_margin_is_made_when_stdout_or_stderr_is_closed(
    closed: str, tmp_path: Path, catalog: Path
):
    write_config(tmp_path, {"input_catalog_path": catalog, "output_artifact_name": "margin"})
    command = f"exec {shlex.join(command_in(tmp_path))} {closed}"
    run = subprocess.run(command, shell=True, env=environment(), timeout=TIME_LIMIT)
    assert run.returncode == 0
    assert margin_digests(tmp_path)


@pytest.mark.parametrize(
    "stdout", ["a pipe that nobody reads", pytest.param("/dev/full", marks=pytest.mark.long)]
)
def test_a_margin_is_made_when_stdout_cannot_be_written_to(
    stdout: str, tmp_path: Path, catalog: Path
):
    write_config(tmp_path, {"input_catalog_path": catalog, "output_artifact_name": "margin"})
    if stdout == "/dev/full":
        descriptor = os.open(stdout, os.O_WRONLY)
    else:
        reading, descriptor = os.pipe()
        os.close(reading)
    run = subprocess.run(
        command_in(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=descriptor,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
        timeout=TIME_LIMIT,
    )
    os.close(descriptor)
    assert run.returncode == 0, run.stderr
    assert "Error" not in run.stderr and "Exception" not in run.stderr
    assert margin_digests(tmp_path)
