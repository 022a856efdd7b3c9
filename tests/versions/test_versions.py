"""The workflow runs with each version of Snakemake that it promises to run with.

`make test-versions` runs this, in environments without the SLURM plugin, which a local run does not
need. SNAKEMAKE_VERSIONS names the versions, for example "9.8 newest 9.28.0".
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.margins import Digests, tree_digest
from support.paths import ROOT
from support.smtp_server import mail_server
from support.snakemake_environments import NEWEST, pins_of, snakemake_of
from support.workflow_runs import SNAKEMAKE, TIME_LIMIT, environment, write_config

VERSIONS = os.environ.get("SNAKEMAKE_VERSIONS", "").split()
SKIES = {"hipscat": ROOT / "demo" / "hipparcos", "hats": ROOT / "demo" / "hipparcos_hats"}
DATED = {"provenance_info.json", "properties", "hats.properties"}
NAME = "margin"
COARSE_JOBS = {"partitions_per_job": 12}  # several jobs of each stage


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def snakemake(version: str) -> Path:
    return snakemake_of(version)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Digests]:
    """The bytes of the demo's margins, made in the project's own environment."""
    directories = {sky: tmp_path_factory.mktemp(sky) for sky in SKIES}
    for sky, directory in directories.items():
        run(SNAKEMAKE, directory, config=configuration(SKIES[sky]))
    return {sky: digests(directory) for sky, directory in directories.items()}


def configuration(sky: Path, **more: Any) -> dict[str, Any]:
    return {
        "input_catalog_path": str(sky),
        "output_artifact_name": NAME,
        "margin_threshold": 600.0,
        **more,
    }


def digests(directory: Path) -> Digests:
    """SHA-256 of each file of a margin that has no date in it."""
    all_files = tree_digest(directory / "results" / NAME)
    return {path: digest for path, digest in all_files.items() if Path(path).name not in DATED}


def command(snakemake: Path, directory: Path, *arguments: str) -> list[str]:
    words = [snakemake, "-s", ROOT / "Snakefile", "--directory", directory, "--cores", 2]
    return [str(word) for word in (*words, *arguments)]


def run(
    snakemake: Path,
    directory: Path,
    *arguments: str,
    config: dict[str, Any] | None = None,
    code: int = 0,
) -> str:
    """Run the workflow, which ends with the code and without a traceback; return what it says."""
    directory.mkdir(exist_ok=True)
    if config is not None:
        write_config(directory, config)
    finished = subprocess.run(
        command(snakemake, directory, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=environment(),
        timeout=TIME_LIMIT,
    )
    assert finished.returncode == code, finished.stdout
    assert "Traceback" not in finished.stdout, finished.stdout
    return finished.stdout


@contextmanager
def started(snakemake: Path, directory: Path, config: dict[str, Any]) -> Iterator[subprocess.Popen]:
    """A run at work, in a process group of its own; what it says is in said.log."""
    write_config(directory, config)
    with (directory / "said.log").open("w") as said:
        main = subprocess.Popen(
            command(snakemake, directory),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
            # Where tests run in the background of a shell, SIGINT is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        yield main
    finally:
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
            main.wait()


def wait_for(main: subprocess.Popen, condition: Callable[[], object]) -> None:
    end = time.monotonic() + TIME_LIMIT
    while main.poll() is None and not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def receipts_and_shards(directory: Path) -> list[Path]:
    return [*directory.glob(f"intermediate/{NAME}/*/shards/*")]


def test_environment_has_that_version_and_no_slurm_plugin(version: str, snakemake: Path):
    said = subprocess.run([snakemake, "--version"], capture_output=True, text=True, check=True)
    assert f"snakemake=={said.stdout.strip()}" in pins_of(version)[1]
    assert version == NEWEST or f"{said.stdout.strip()}.".startswith(f"{version}.")
    assert not list(snakemake.parents[1].glob("lib/*/site-packages/snakemake_executor_plugin_*"))


def test_dry_run_makes_nothing(snakemake: Path, tmp_path: Path):
    said = run(snakemake, tmp_path, "--dry-run", config=configuration(SKIES["hipscat"]))
    assert "map_partitions" in said
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "intermediate").exists()


@pytest.mark.parametrize("sky", SKIES)
def test_demo(snakemake: Path, sky: str, tmp_path: Path, reference: dict[str, Digests]):
    said = run(snakemake, tmp_path, config=configuration(SKIES[sky]))
    assert f"results/{NAME}: " in said
    assert digests(tmp_path) == reference[sky]
    assert "Nothing to be done" in run(snakemake, tmp_path)


def test_killed_run_goes_on(snakemake: Path, tmp_path: Path, reference: dict[str, Digests]):
    config = configuration(SKIES["hats"], **COARSE_JOBS)
    with started(snakemake, tmp_path, config) as main:
        wait_for(main, lambda: len(receipts_and_shards(tmp_path)) >= 2)
        os.killpg(main.pid, signal.SIGKILL)
        assert main.wait() == -signal.SIGKILL, (tmp_path / "said.log").read_text()
    assert not (tmp_path / "results" / NAME).exists()
    # The lock of a killed run stays.
    run(snakemake, tmp_path, "--unlock")
    run(snakemake, tmp_path)
    assert digests(tmp_path) == reference["hats"]


def test_failed_job_sends_a_mail(snakemake: Path, tmp_path: Path):
    catalog = tmp_path / "damaged"
    shutil.copytree(SKIES["hipscat"], catalog)
    damaged = max(catalog.rglob("Npix=*.parquet"), key=lambda path: path.stat().st_size)
    with damaged.open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * 2000)
    with mail_server() as (inbox, smtp):
        config = configuration(catalog, completion_email_address="one@example.org", smtp=smtp)
        said = run(snakemake, tmp_path / "run", config=config, code=1)
    (mail,) = inbox.mails
    assert mail.message["Subject"] == f"Margin cache failed: {NAME} in map_partitions"
    (error,) = {line for line in said.splitlines() if line.startswith("error: ")}
    reason = f"{damaged}: cannot be read"
    assert reason in error
    assert reason in mail.text
    assert not (tmp_path / "run" / "results" / NAME).exists()


def test_forceall_makes_a_finished_margin_again(
    snakemake: Path, tmp_path: Path, reference: dict[str, Digests]
):
    run(snakemake, tmp_path, config=configuration(SKIES["hats"]))
    properties = tmp_path / "results" / NAME / "properties"
    before = properties.stat()
    said = run(snakemake, tmp_path, "--forceall")
    assert f"results/{NAME}: " in said
    assert properties.stat().st_ino != before.st_ino
    assert digests(tmp_path) == reference["hats"]


def test_interrupted_run_says_so_and_goes_on(
    snakemake: Path, tmp_path: Path, reference: dict[str, Digests]
):
    with started(snakemake, tmp_path, configuration(SKIES["hipscat"], **COARSE_JOBS)) as main:
        wait_for(main, lambda: receipts_and_shards(tmp_path))
        so_far = (tmp_path / "said.log").read_text()
        os.killpg(main.pid, signal.SIGINT)
        assert main.wait(TIME_LIMIT) == 1
    said = (tmp_path / "said.log").read_text()
    assert "Traceback" not in said
    assert "stopped by SIGINT" in said
    assert len(said[len(so_far) :].splitlines()) <= 15, said
    run(snakemake, tmp_path)
    assert digests(tmp_path) == reference["hipscat"]


MODULE = """
import gc, logging, os, signal
from pathlib import Path
from snakemake.logging import logger


def state():
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    return (
        [signal.getsignal(number) for number in numbers],
        [list(logger.handlers), list(logger.filters), logger.level],
        dict(os.environ),
        gc.get_freeze_count(),
    )


before = state()

onstart:
    Path("onstart").touch()
onsuccess:
    Path("onsuccess").touch()

module margin:
    snakefile: {snakefile!r}
    config: config

use rule * from margin as margin_*

assert state() == before

rule everything:
    default_target: True
    input: rules.margin_all.input
"""


def test_module_makes_the_margin_and_touches_nothing_of_the_other_workflow(
    snakemake: Path, tmp_path: Path, reference: dict[str, Digests]
):
    (tmp_path / "Snakefile").write_text(MODULE.format(snakefile=str(ROOT / "Snakefile")))
    write_config(tmp_path, configuration(SKIES["hats"]))
    config = tmp_path / "config" / "config.yaml"
    run(snakemake, tmp_path, "-s", str(tmp_path / "Snakefile"), "--configfile", str(config))
    assert digests(tmp_path) == reference["hats"]
    assert (tmp_path / "onstart").exists()
    assert (tmp_path / "onsuccess").exists()
