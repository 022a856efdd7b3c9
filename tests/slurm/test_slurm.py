"""On a real SLURM cluster, the margin has the bytes of one made locally, whatever goes wrong."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.margins import tree_digest
from support.paths import ROOT
from support.slurm_cluster import Cluster, wait_for
from support.small_skies import small_catalog
from support.workflow_runs import SNAKEMAKE, run_workflow, write_config

RESUME = ROOT / "scripts/resume_run.py"
ACCOUNT = ("slurm_account=lab", "slurm_partition=main")
PROFILE = (
    *("--workflow-profile", ROOT / "profiles/slurm", "--default-resources", *ACCOUNT),
    *("--slurm-init-seconds-before-status-checks", "1"),
)

Digests = dict[str, str]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=6000, max_rows=100)


@pytest.fixture(scope="module")
def local_margin(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> Digests:
    directory = tmp_path_factory.mktemp("local")
    run_workflow(directory, config=configuration(catalog), check=True)
    return margin_digests(directory)


def configuration(catalog: Path, partitions_per_job: int = 1000) -> dict[str, Any]:
    return {
        "input_catalog_path": catalog,
        "output_artifact_name": "margin",
        "margin_threshold": 60.0,
        "partitions_per_job": partitions_per_job,
    }


def margin_digests(directory: Path) -> Digests:
    """SHA-256 of every file of a margin but its provenance, which has the date and the jobs."""
    digests = tree_digest(directory / "results/margin")
    digests.pop("provenance_info.json", None)
    return digests


@contextmanager
def running(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A run on the cluster, whose main process is killed at the end."""
    command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "--directory", directory, *PROFILE]
    with (directory / "first.log").open("w") as log:
        main = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield main
    finally:
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
        main.wait()


def resume(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, RESUME, *options, "-s", ROOT / "Snakefile", "-d", directory]
    return subprocess.run(
        [str(part) for part in (*command, *PROFILE)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def a_job(cluster: Cluster, directory: Path) -> dict[str, str]:
    """A job of a run, as soon as it runs."""
    return wait_for(lambda: cluster.jobs_of(directory, "RUNNING"), "job that runs")[0]


def finished(run: subprocess.Popen[str], directory: Path) -> str:
    """What a run has printed, once it has ended well."""
    status = run.wait(300)
    output = (directory / "first.log").read_text()
    assert status == 0, output
    return output


def states(cluster: Cluster, directory: Path) -> list[str]:
    return [job["state"] for job in cluster.jobs_of(directory)]


# --- runs without a fault -------------------------------------------------------------------


def test_a_margin_of_a_hundred_partitions(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    assert len(list(catalog.rglob("Npix=*.parquet"))) >= 100
    config = configuration(catalog, partitions_per_job=60)
    run_workflow(tmp_path, *PROFILE, config=config, check=True)
    assert margin_digests(tmp_path) == local_margin
    jobs = cluster.jobs_of(tmp_path)
    assert len(jobs) >= 6
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert {job["node"] for job in jobs} == {"n1", "n2"}
    # The resources of the rules, and not Snakemake's default.
    assert {int(job["memory"].rstrip("M")) for job in jobs} <= set(range(450, 600))


def test_without_the_profile_an_account_and_a_partition_are_enough(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    run_workflow(
        tmp_path,
        *("--executor", "slurm", "--jobs", "10", "--default-resources", *ACCOUNT),
        # The cluster is in a hurry; that it has no accounting, profiles/default copes with.
        *("--slurm-init-seconds-before-status-checks", "1"),
        config=configuration(catalog),
        check=True,
    )
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path) == ["COMPLETED"] * 2


def test_the_job_size_of_the_profile_stands_beside_other_settings(tmp_path: Path, catalog: Path):
    config = {"input_catalog_path": catalog, "job_size_mb": 100}
    arguments = ("--workflow-profile", ROOT / "profiles/slurm", "--executor", "local")
    arguments += ("--until", "map_partitions")
    run_workflow(tmp_path, *arguments, "--config", "margin_threshold=7", config=config, check=True)
    (record,) = tmp_path.glob("intermediate/*/*/margin.json")
    assert record.parent.parent.name == "sky_7arcs"
    assert '"job_size_mb": 40000' in record.read_text()


def test_a_run_begun_locally_is_finished_on_the_cluster(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    config = configuration(catalog)
    size = ("--config", "job_size_mb=300")
    run_workflow(tmp_path, "--until", "map_partitions", *size, config=config, check=True)
    run_workflow(tmp_path, *PROFILE, *size, check=True)
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path) == ["COMPLETED"]


# --- faults ---------------------------------------------------------------------------------


def test_a_job_that_is_cancelled_is_done_again(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    write_config(tmp_path, configuration(catalog))
    with running(tmp_path) as run:
        subprocess.run(["scancel", a_job(cluster, tmp_path)["id"]], check=True)
        finished(run, tmp_path)
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path) == ["CANCELLED", "COMPLETED", "COMPLETED"]


def test_the_jobs_of_a_node_that_dies_are_done_on_another(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    write_config(tmp_path, configuration(catalog))
    with running(tmp_path) as run:
        node = a_job(cluster, tmp_path)["node"]
        cluster.do("kill-node", node)
        try:
            finished(run, tmp_path)
        finally:
            cluster.do("start-node", node)
    assert margin_digests(tmp_path) == local_margin
    first, *others = cluster.jobs_of(tmp_path)
    assert first["state"] == "NODE_FAIL"
    assert [job["state"] for job in others] == ["COMPLETED"] * 2
    assert node not in {job["node"] for job in others}


def test_a_job_that_runs_out_of_memory_gets_more_at_its_second_attempt(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    little = "map_partitions:mem_mb=60 if attempt == 1 else 600"
    config = configuration(catalog)
    output = run_workflow(
        tmp_path, *PROFILE, "--set-resources", little, config=config, check=True
    ).stdout
    assert margin_digests(tmp_path) == local_margin
    first, second, _ = cluster.jobs_of(tmp_path)
    assert (first["state"], first["memory"]) == ("FAILED", "60M"), output
    assert (second["state"], second["memory"]) == ("COMPLETED", "600M")


def test_a_run_whose_main_process_was_killed_is_resumed(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    write_config(tmp_path, configuration(catalog))
    other = tmp_path / "other/.snakemake/slurm_logs/job.log"
    other.parent.mkdir(parents=True)
    stays = subprocess.run(
        ["sbatch", "--parsable", f"--output={other}", "--mem=10", "--wrap=sleep 300"],
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout.strip()
    with running(tmp_path) as run:
        a_job(cluster, tmp_path)
        refused = resume(tmp_path)
        assert refused.returncode
        assert f"the run is alive, as process {run.pid}" in refused.stdout
        run.kill()
        run.wait()
        resumed = resume(tmp_path)
        assert resumed.returncode == 0, resumed.stdout
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path) == ["CANCELLED", "COMPLETED", "COMPLETED"]
    assert stays in [job["id"] for job in cluster.jobs("RUNNING")]
    subprocess.run(["scancel", stays], check=True)


def test_two_copies_of_a_job_at_once_do_no_harm(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    write_config(tmp_path, configuration(catalog))
    with running(tmp_path) as run:
        old = a_job(cluster, tmp_path)["id"]
        run.kill()
        run.wait()
    # Held back until its copy is at work.
    subprocess.run(["scontrol", "suspend", old], check=True)
    run_workflow(tmp_path, *PROFILE, "--unlock", check=True)
    with running(tmp_path) as run:
        a_job(cluster, tmp_path)
        subprocess.run(["scontrol", "resume", old], check=True)
        assert len(cluster.jobs_of(tmp_path, "RUNNING")) == 2
        finished(run, tmp_path)
    assert margin_digests(tmp_path) == local_margin
    wait_for(lambda: set(states(cluster, tmp_path)) == {"COMPLETED"}, "end of the old job")
    assert margin_digests(tmp_path) == local_margin
    assert len(states(cluster, tmp_path)) == 3
