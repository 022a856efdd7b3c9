"""The last lines of a run name the cause of a failure, and nothing is tried again in vain."""

from pathlib import Path

import pytest
from margin_cache.cluster.failures import cause, causes, is_final, never, refusal
from margin_cache.errors import FINAL

# As the executor plugin has them.
REFUSED = (
    "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: x\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified'.\n"
    "    sbatch call:\n        sbatch --parsable\n"
)
BUSY = REFUSED.replace("invalid partition specified: x", "Socket timed out on send/recv operation")
NOT_SUBMITTED = (
    "Job submission failed with exception: [Errno 36] File name too long: 'x'For further error "
    "details see the cluster/cloud log and the log files of the involved rule(s)."
)
ENDED = "SLURM-job '7' failed, SLURM status is: '{}'. For further error details see the log."


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    """The log of a script, which has nothing to say, and SLURM's."""
    paths = [tmp_path / "script.log", tmp_path / "7.log"]
    for path in paths:
        path.touch()
    return list(map(str, paths))


def say(log: str, *lines: str) -> None:
    Path(log).write_text("\n".join(lines) + "\n")


def test_what_slurm_says_of_a_refusal_is_found() -> None:
    assert refusal(REFUSED).startswith("sbatch: error: invalid partition specified: x sbatch:")
    assert refusal(NOT_SUBMITTED) == "[Errno 36] File name too long: 'x'"
    assert refusal(ENDED.format("FAILED")) == refusal("") == ""


@pytest.mark.parametrize(
    ("message", "final"),
    [
        (REFUSED, True),
        (NOT_SUBMITTED, True),
        (BUSY, False),
        (ENDED.format("OUT_OF_MEMORY"), False),
        (ENDED.format("TIMEOUT"), False),
        (ENDED.format("NODE_FAIL"), False),
        (ENDED.format("CANCELLED"), False),
        ("", False),
    ],
)
def test_a_refusal_is_final_unless_slurm_is_busy(
    message: str, final: bool, logs: list[str]
) -> None:
    assert is_final(message, logs, False) is final


def test_what_a_script_says_is_final_is(logs: list[str]) -> None:
    say(logs[0], FINAL, "error: a.parquet: is damaged")
    assert is_final(ENDED.format("FAILED"), logs, True)
    assert is_final("", logs[:1], True)
    say(logs[0], "error: a.parquet: Stale file handle")
    assert not is_final(ENDED.format("FAILED"), logs, True)


def test_a_path_that_no_job_has_seen_is_final(logs: list[str]) -> None:
    say(logs[1], "error: tmp_dir: /x is not visible on n1, which runs a job; it must be")
    assert is_final(ENDED.format("FAILED"), logs, has_come_back=False)
    assert not is_final(ENDED.format("FAILED"), logs, has_come_back=True)


@pytest.mark.parametrize(
    ("message", "lines", "words"),
    [
        (REFUSED, (), ("SLURM refuses the job", "invalid partition specified: x")),
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
        ("MissingOutputException", (), ("all nodes see", "--latency-wait")),
        (ENDED.format("FAILED"), (), ("before it wrote a line", str(Path.cwd()))),
        (ENDED.format("FAILED"), ("Traceback", "ValueError: no"), ("ValueError: no",)),
        ("exit code 9. For further error details see", (), ("a job failed: exit code 9.",)),
        (never("PartitionTimeLimit"), (), ("never start", "PartitionTimeLimit")),
        ("", (), ("end of its log", "unheard of")),
    ],
)
def test_the_cause_is_named(
    message: str, lines: tuple[str, ...], words: tuple[str, ...], logs: list[str]
) -> None:
    say(logs[1], *(lines or (() if message else ("unheard of",))))
    line = cause("map", message, logs, 450, 11)
    assert line.startswith("error: map: ")
    for word in words:
        assert word in line


def test_what_the_script_says_comes_before_all(logs: list[str]) -> None:
    say(logs[0], FINAL, "error: a.parquet: is damaged")
    say(logs[1], "error: x", "slurmstepd: error: oom_kill")
    logs.reverse()
    assert cause("map", ENDED.format("FAILED"), logs) == "error: a.parquet: is damaged"


def test_nothing_known_is_nothing_said(tmp_path: Path) -> None:
    assert cause("map", "", [str(tmp_path / "gone")]) == ""


def test_a_cause_of_many_jobs_is_said_once() -> None:
    assert causes(["a", "b", "a", "a"]) == ["a (3 jobs)", "b"]
