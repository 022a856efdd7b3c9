"""On a real SLURM cluster, the margin has the bytes of one made locally, whatever goes wrong."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.model import Partitions
from margin_cache.config.model import SMTP_PASSWORD
from margin_cache.margin.model import load_margin
from support.margins import tree_digest
from support.paths import ROOT
from support.signals import default_signals
from support.skips import lacking
from support.slurm_cluster import TIME_LIMIT, Cluster, wait_for
from support.small_skies import small_catalog
from support.workflow_runs import SNAKEMAKE, run_workflow, write_config

ACCOUNT = ("slurm_account=lab", "slurm_partition=main")


def profile(*partition_and_more: str) -> tuple[str | Path, ...]:
    """Arguments for a run on the cluster: a partition, and further resources of all jobs."""
    partition, *more = partition_and_more
    resources = ("slurm_account=lab", f"slurm_partition={partition}", *more)
    return (
        *("--workflow-profile", ROOT / "profiles/slurm", "--default-resources", *resources),
        *("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "1"),
    )


PROFILE = profile("main")

Digests = dict[str, str]
SECRET = "hunter2-s3cret"


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


@pytest.mark.long
def test_the_benchmark_runs(cluster: Cluster) -> None:
    script = ROOT / "benchmarks/measure_slurm.py"
    resources = ("slurm_account=lab", "slurm_partition=main")
    smallest = ("--order", "0", "--groupings", "auto")
    finished = subprocess.run(
        [sys.executable, script, *resources, *smallest], capture_output=True, encoding="utf-8"
    )
    assert finished.returncode == 0, finished.stderr
    assert len(re.findall(r"^\| auto \|.* \d+ \|$", finished.stdout, re.M)) == 1


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
            preexec_fn=default_signals,
        )
    try:
        yield main
    finally:
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
        main.wait()


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
    cluster: Cluster,
    tmp_path: Path,
    catalog: Path,
    local_margin: Digests,
    monkeypatch: pytest.MonkeyPatch,
):
    """Its bytes, its jobs, and what the queue tells of them by the command in docs/hpc.md.

    It is made with a secret in the environment that no job needs.
    """
    monkeypatch.setenv(SMTP_PASSWORD, SECRET)
    monkeypatch.setenv("NO_SECRET", "all-the-rest")
    assert len(list(catalog.rglob("Npix=*.parquet"))) >= 100
    config = configuration(catalog, partitions_per_job=80)
    run = run_workflow(tmp_path, *PROFILE, config=config, check=True)
    assert "%|" not in run.stdout and "jobid" not in run.stdout
    assert margin_digests(tmp_path) == local_margin
    jobs = cluster.jobs_of(tmp_path)
    assert len(jobs) >= 4
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert {job["node"] for job in jobs} <= {"n1", "n2"}
    # The resources of the rules, and not Snakemake's default.
    assert {int(job["memory"].rstrip("M")) for job in jobs} <= set(range(500, 650))
    # SLURM keeps the environment that a job is handed in with, and gives it to the job.
    kept = [path.read_bytes() for path in cluster.directory.glob("state/**/environment")]
    assert sum(b"NO_SECRET=all-the-rest" in text for text in kept) >= len(jobs)
    assert not [text for text in kept if SECRET.encode() in text]
    assert_queue_tells_stages_and_pixels(tmp_path, {job["id"] for job in jobs})


def assert_queue_tells_stages_and_pixels(directory: Path, jobs: set[str]) -> None:
    """The command in docs/hpc.md, with old jobs too, names rule, number and pixels of each job."""
    command = queue_command()
    with_old = command.replace("--me", "--me --states=all --noheader")
    assert with_old != command
    listed = subprocess.check_output(["bash", "-c", with_old], encoding="utf-8").splitlines()
    lines = [words for line in listed if (words := line.split())[0] in jobs]
    assert {words[-1] for words in lines} == {"None"}
    plan = load_margin(next(directory.glob("intermediate/margin/*/margin.json"))).plan
    names = {"map_partitions": plan.map_names, "reduce_margins": plan.reduce_names}
    assert min(map(len, names.values())) >= 2
    expected = set()
    for rule, rule_jobs in names.items():
        for job in rule_jobs:
            number, *pixels, _ = job.split("-")
            expected.add((rule, number, "-".join(pixels)))
    comment = re.compile(r"rule_([a-z_]+)_wildcards_.*_(\d{5})-([op\d-]+)-[\da-f]+")
    matches = [comment.fullmatch(words[-2]) or pytest.fail(words[-2]) for words in lines]
    assert {match.groups() for match in matches} == expected
    first, last = (pixel_name(plan.partitions, number) for number in (0, 79))
    assert ("map_partitions", "00000", f"{first}-{last}") in expected


def pixel_name(partitions: Partitions, number: int) -> str:
    return f"o{partitions.orders[number]}p{partitions.pixels[number]}"


def queue_command() -> str:
    """The command in docs/hpc.md that lists jobs with their stages and pixels."""
    page = (ROOT / "docs/hpc.md").read_text(encoding="utf-8")
    (command,) = [
        line for line in page.splitlines() if line.startswith("squeue --me --format '%i %T")
    ]
    return command


def test_an_audit_is_done_in_jobs_and_says_its_verdict(
    cluster: Cluster, tmp_path: Path, catalog: Path
):
    run_workflow(tmp_path, config=configuration(catalog), check=True)
    file = max(
        tmp_path.glob("results/margin/**/Npix=*.parquet"), key=lambda file: file.stat().st_size
    )
    pq.write_table(pq.ParquetFile(file).read().slice(1), file)
    config = configuration(catalog, partitions_per_job=80)
    run = run_workflow(tmp_path, "audit", *PROFILE, config=config)
    assert run.returncode != 0
    assert "audit: results/margin is UNSAFE" in run.stdout
    assert "error: " not in run.stdout
    jobs = cluster.jobs_of(tmp_path)
    assert len(jobs) >= 2
    assert {job["state"] for job in jobs} == {"COMPLETED"}


def test_slurm_needs_no_profile_but_an_account_and_a_partition(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    run_workflow(
        tmp_path,
        *("--executor", "slurm", "--jobs", "10", "--default-resources", *ACCOUNT),
        # The cluster is in a hurry, and has no accounting that sacct could ask.
        *("--slurm-init-seconds-before-status-checks", "1", "--slurm-status-command", "squeue"),
        config=configuration(catalog),
        check=True,
    )
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path) == ["COMPLETED"] * 2


def test_the_job_size_of_the_profile_applies_beside_other_settings(tmp_path: Path, catalog: Path):
    config = {"input_catalog_path": catalog, "job_size_mb": 100}
    arguments = ("--workflow-profile", ROOT / "profiles/slurm", "--executor", "local")
    arguments += ("--until", "map_partitions")
    run_workflow(tmp_path, *arguments, "--config", "margin_threshold=7", config=config, check=True)
    (record,) = tmp_path.glob("intermediate/*/*/margin.json")
    assert record.parent.parent.name == "sky_7arcs"
    assert '"job_size_mb": 40000' in record.read_text()


@pytest.mark.long
def test_a_run_begun_locally_is_finished_on_the_cluster(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    config = configuration(catalog)
    size = ("--config", "job_size_mb=300")
    run_workflow(tmp_path, "--until", "map_partitions", *size, config=config, check=True)
    run_workflow(tmp_path, *PROFILE, *size, check=True)
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path) == ["COMPLETED"]


# --- requests that cannot be met ------------------------------------------------------------


def last_error(run: subprocess.CompletedProcess[str]) -> str:
    """The one line at the end of a failed run that says what is wrong."""
    assert run.returncode == 1, run.stdout
    assert "Traceback" not in run.stdout
    errors = {line for line in run.stdout.splitlines()[-15:] if line.startswith("error: ")}
    assert len(errors) == 1, run.stdout
    return errors.pop()


def test_a_request_above_the_limit_of_its_partition_ends_the_run(
    cluster: Cluster, tmp_path: Path, catalog: Path
):
    """With SLURM's own reason, within 90 seconds."""
    start = time.monotonic()
    run = run_workflow(tmp_path, *profile("short"), config=configuration(catalog))
    assert re.search(r"SLURM would never start job \d+ \(PartitionTimeLimit\)", last_error(run))
    assert time.monotonic() - start < 90
    assert states(cluster, tmp_path) == ["CANCELLED"], run.stdout + run.stderr
    assert not list((tmp_path / ".snakemake").glob("locks/*"))
    # Less can be given.
    less = ("--set-resources", "map_partitions:runtime=5", "reduce_margins:runtime=5")
    run = run_workflow(tmp_path, *profile("short"), *less, "--dry-run", check=True)
    assert "This was a dry-run" in run.stdout


def test_a_refused_submission_is_reported_once(cluster: Cluster, tmp_path: Path, catalog: Path):
    options = profile("main", "constraint=nosuch")
    run = run_workflow(tmp_path, *options, config=configuration(catalog, partitions_per_job=40))
    error = last_error(run)
    assert error.startswith("error: map_partitions: SLURM refused the job: sbatch: error: ")
    assert "Invalid feature specification" in error
    assert error.endswith(" jobs)")
    assert cluster.jobs_of(tmp_path) == []


# --- faults ---------------------------------------------------------------------------------


def test_a_damaged_file_is_named(cluster: Cluster, tmp_path: Path, catalog: Path):
    damaged = shutil.copytree(catalog, tmp_path / "sky")
    path = sorted(damaged.rglob("Npix=*.parquet"))[7]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4] + content[len(content) // 2 :])
    run = run_workflow(tmp_path, *PROFILE, "--retries", "1", config=configuration(damaged))
    assert last_error(run).startswith(f"error: {path}: cannot be read")
    assert states(cluster, tmp_path) == ["FAILED", "FAILED"]


def test_running_out_of_memory_is_named_without_a_log(
    cluster: Cluster, tmp_path: Path, catalog: Path
):
    options = ("--retries", "0", "--set-resources", "map_partitions:mem_mb=60")
    run = run_workflow(tmp_path, *PROFILE, *options, config=configuration(catalog))
    assert "map_partitions: the job ran out of memory (60 MB requested)" in last_error(run)


def test_a_directory_that_nodes_do_not_see_is_named_in_the_error(
    cluster: Cluster, tmp_path: Path, catalog: Path
):
    if not cluster.nodes_have_a_directory_of_their_own():
        lacking("this machine gives nodes no file systems of their own")
    config = configuration(catalog) | {"tmp_dir": cluster.directory / "unseen/tmp"}
    error = last_error(run_workflow(tmp_path, *PROFILE, "--retries", "0", config=config))
    assert error.startswith(f"error: tmp_dir: {cluster.directory}/unseen/tmp has no plan of")
    assert states(cluster, tmp_path) == ["FAILED"]


def test_a_stopped_run_leaves_no_job_and_no_lock(cluster: Cluster, tmp_path: Path, catalog: Path):
    write_config(tmp_path, configuration(catalog))
    with running(tmp_path) as run:
        a_job(cluster, tmp_path)
        run.terminate()
        assert run.wait(TIME_LIMIT) == 1
        output = (tmp_path / "first.log").read_text()
    assert "\nstopped by SIGTERM. Completed work is kept; " in output
    assert "error: " not in output
    wait_for(lambda: states(cluster, tmp_path) == ["CANCELLED"], "end of the job")
    assert not list((tmp_path / ".snakemake").glob("locks/*"))


@pytest.mark.long
def test_a_cancelled_job_is_submitted_again(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    write_config(tmp_path, configuration(catalog))
    with running(tmp_path) as run:
        subprocess.run(["scancel", a_job(cluster, tmp_path)["id"]], check=True)
        finished(run, tmp_path)
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path) == ["CANCELLED", "COMPLETED", "COMPLETED"]


def test_jobs_of_a_dead_node_are_done_on_another(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    jobs: list[dict[str, str]] = []
    # A job that has ended before its node has died is no case of this.
    while not jobs or jobs[0]["state"] == "COMPLETED":
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        write_config(directory, configuration(catalog))
        with running(directory) as run:
            node = a_job(cluster, directory)["node"]
            cluster.do("kill-node", node)
            try:
                finished(run, directory)
            finally:
                cluster.do("start-node", node)
        assert margin_digests(directory) == local_margin
        jobs = cluster.jobs_of(directory)
    first, *others = jobs
    assert first["state"] == "NODE_FAIL"
    assert [job["state"] for job in others] == ["COMPLETED"] * 2
    assert node not in {job["node"] for job in others}


def test_a_job_that_runs_out_of_memory_gets_more(
    cluster: Cluster, tmp_path: Path, catalog: Path, local_margin: Digests
):
    """By an expression with the attempt, as in docs/hpc.md.

    SLURM looks once a second: Snakemake alone, with some 200 MB, takes more than the first number;
    with a job's script, of some 90 MB, it stays below the second one.
    """
    output = run_workflow(
        tmp_path,
        *PROFILE,
        *("--set-resources", "map_partitions:mem_mb=165*attempt"),
        config=configuration(catalog),
        check=True,
    ).stdout
    assert margin_digests(tmp_path) == local_margin
    first, second, _ = cluster.jobs_of(tmp_path)
    assert (first["state"], first["memory"]) == ("FAILED", "165M"), output
    assert (second["state"], second["memory"]) == ("COMPLETED", "330M")


@pytest.mark.long
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
    # Snakemake deletes the shard before a job begins, so that each copy may delete the other's,
    # and fail; then the run repeats the job.
    ended = {"COMPLETED", "FAILED"}
    wait_for(lambda: set(states(cluster, tmp_path)) <= ended, "end of the old job")
    assert margin_digests(tmp_path) == local_margin
    assert states(cluster, tmp_path).count("FAILED") <= 2
    assert states(cluster, tmp_path)[-2:] == ["COMPLETED"] * 2
    assert len(states(cluster, tmp_path)) <= 4
