"""The last lines of a run name the cause of a failure."""

from pathlib import Path

import pytest
from margin_cache.notification import Job, cause, failure_summary, last_lines

# Messages of the executor plugin.
REFUSED = (
    "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: x\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified'.\n"
    "    sbatch call:\n        sbatch --parsable\n"
)
NOT_SUBMITTED = (
    "Job submission failed with exception: [Errno 36] File name too long: 'x'For further error "
    "details see the cluster/cloud log and the log files of the involved rule(s)."
)
ENDED = "SLURM-job '7' failed, SLURM status is: '{}'. For further error details see the log."


@pytest.fixture
def logs(tmp_path: Path) -> tuple[str, str]:
    """The empty logs of a script and of SLURM."""
    paths = tmp_path / "script.log", tmp_path / "7.log"
    for path in paths:
        path.touch()
    return str(paths[0]), str(paths[1])


def write(log: str, *lines: str) -> None:
    Path(log).write_text("\n".join(lines) + "\n")


def failed(message: str, logs: tuple[str, ...]) -> Job:
    return Job("map", {}, logs, message, 450, 11)


@pytest.mark.parametrize(
    ("message", "lines", "words"),
    [
        (
            REFUSED,
            (),
            ("SLURM refused the job: sbatch: error: invalid partition specified: x sbatch:",),
        ),
        (NOT_SUBMITTED, (), ("SLURM refused the job: [Errno 36] File name too long: 'x'",)),
        (ENDED.format("OUT_OF_MEMORY"), (), ("memory", "450 MB", "map:mem_mb=900")),
        (
            ENDED.format("FAILED"),
            ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.",),
            ("memory", "450 MB"),
        ),
        (
            ENDED.format("FAILED"),
            ("slurmstepd: error: Job 7 exceeded memory limit (70M > 60M), being killed",),
            ("memory",),
        ),
        (ENDED.format("TIMEOUT"), (), ("time", "11 minutes", "map:runtime=22", "job_size_mb")),
        (
            ENDED.format("FAILED"),
            ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT X DUE TO TIME LIMIT ***",),
            ("time", "11 minutes"),
        ),
        (ENDED.format("NODE_FAIL"), (), ("node", "failed")),
        (ENDED.format("CANCELLED"), (), ("cancelled",)),
        ("MissingOutputException", (), ("all nodes share", "--latency-wait")),
        (ENDED.format("FAILED"), (), ("wrote no log", str(Path.cwd()))),
        (ENDED.format("FAILED"), ("Traceback", "ValueError: no"), ("ValueError: no",)),
        ("exit code 9. For further error details see", (), ("the job failed: exit code 9.",)),
        ("", ("unheard of",), ("last line of its log", "unheard of")),
    ],
)
def test_the_cause_is_named(
    message: str, lines: tuple[str, ...], words: tuple[str, ...], logs: tuple[str, str]
) -> None:
    if lines:
        write(logs[1], *lines)
    line = cause(failed(message, logs))
    assert line.startswith("error: map: ")
    for word in words:
        assert word in line


def test_the_error_of_the_script_comes_first(logs: tuple[str, str]) -> None:
    write(logs[0], "reading", "error: a.parquet: is damaged")
    write(logs[1], "error: x", "slurmstepd: error: oom_kill")
    script, slurm = logs
    line = cause(failed(ENDED.format("FAILED"), (slurm, script)))
    assert line == "error: a.parquet: is damaged"


def test_the_cause_is_empty_if_nothing_is_known(tmp_path: Path) -> None:
    job = Job("map", logs=(str(tmp_path / "missing"),))
    assert cause(job) == ""


def test_a_cause_of_several_jobs_is_named_once() -> None:
    jobs = [Job("map", message=message) for message in ("a", "b", "a", "a")]
    assert failure_summary([], jobs).splitlines()[1:] == [
        "error: map: the job failed: a (3 jobs)",
        "error: map: the job failed: b",
    ]


def test_of_a_large_log_only_the_end_is_read(logs: tuple[str, str]) -> None:
    write(logs[0], "x" * 10_000_000, "", "y" * 1000, "end \xff")
    lines = last_lines(logs[0])
    assert [line[0] for line in lines] == ["x", "y", "e"]
    assert max(map(len, lines)) == 500
    assert last_lines(logs[1]) == last_lines(logs[0] + "-missing") == []
