"""Jobs that can never start are told from those that wait for their turn."""

import threading
from pathlib import Path

import pytest
from margin_cache.run import slurm
from margin_cache.run.slurm import QueueWatch, queued_jobs


def line(job: str, reason: str, log: Path | str) -> str:
    """A line of squeue, in columns as run/slurm.py asks for them."""
    return f"{job:32}{reason:64}{log}"


def put_program(directory: Path, name: str, script: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in front of all others on PATH; its SLURM is asked without pauses."""
    monkeypatch.setattr(slurm, "CANCEL_PAUSES", (0, 0, 0))
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    directory = tmp_path / ".snakemake" / "slurm_logs"
    directory.mkdir(parents=True)
    return directory


def test_only_jobs_that_log_below_the_directory_belong_to_the_run(
    programs: Path, logs: Path
) -> None:
    listed = [
        line("11", "PartitionTimeLimit", logs / "rule_a" / "11.log"),
        line("12_3", "(launch failed requeued held)", logs / "a b.log"),
        line("13", "Priority", "/elsewhere/.snakemake/slurm_logs/13.log"),
    ]
    (programs / "queue").write_text("\n".join([*listed, ""]))
    put_program(programs, "squeue", f'echo "$*" > {programs}/asked\ncat {programs}/queue')
    assert queued_jobs(logs) == {
        "11": "PartitionTimeLimit",
        "12_3": "(launch failed requeued held)",
    }
    assert (programs / "asked").read_text().startswith("--me --noheader")


def test_reasons_that_no_waiting_changes_are_told_from_others() -> None:
    never = (
        *("AccountNotAllowed", "QOSNotAllowed", "InvalidAccount", "InvalidQOS", "BadConstraints"),
        *("MaxMemPerLimit", "PartitionNodeLimit", "PartitionTimeLimit", "AssocMaxMemPerJob"),
        *("AssocMaxCpuMinutesPerJobLimit", "AssocMaxWallDurationPerJobLimit"),
        *("QOSMaxMemoryPerJob", "QOSMaxCpuPerJobLimit", "QOSMaxNodePerJobLimit"),
    )
    waiting = (
        *(
            "",
            "None",
            "Priority",
            "Resources",
            "Dependency",
            "AssocMaxJobsLimit",
            "AssocGrpCpuLimit",
        ),
        *("QOSMaxCpuPerUserLimit", "QOSMaxJobsPerUserLimit", "QOSGrpMemLimit", "PartitionDown"),
    )
    assert all(map(slurm._UNSCHEDULABLE.fullmatch, never))
    assert not any(map(slurm._UNSCHEDULABLE.fullmatch, waiting))


def test_a_job_that_can_never_start_is_reported_with_the_reason(
    programs: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "POLL_SECONDS", (0.01,))
    queue = programs / "queue"
    queue.write_text(line("1", "PartitionTimeLimit", logs) + "\n")
    put_program(programs, "squeue", f"cat {queue}")
    reported: list[tuple[str, str]] = []
    is_reported = threading.Event()

    def report(job: str, reason: str) -> None:
        reported.append((job, reason))
        is_reported.set()

    watch = QueueWatch(report, logs)
    # Job 1 was there before this run; a job of this run waits for its turn, and then another one.
    waiting = line("2", "Priority", logs)
    queue.write_text(f"{line('1', 'PartitionTimeLimit', logs)}\n{waiting}\n")
    assert not is_reported.wait(0.2)
    queue.write_text(f"{waiting}\n{line('3', 'MaxMemPerLimit', logs)}\n")
    assert is_reported.wait(30)
    watch.stop()
    assert reported == [("3", "MaxMemPerLimit")]


def test_what_is_left_of_the_run_is_cancelled_and_nothing_else(programs: Path, logs: Path) -> None:
    queue = programs / "queue"
    queue.write_text(line("1", "None", logs) + "\n")
    put_program(programs, "squeue", f"cat {queue}")
    put_program(programs, "scancel", f'echo "$*" > {programs}/cancelled')
    watch = QueueWatch(lambda job, reason: None, logs)
    queue.write_text(f"{line('1', 'None', logs)}\n{line('2', 'None', logs)}\n")
    watch.cancel_jobs()
    watch.stop()
    assert (programs / "cancelled").read_text() == "2\n"


def test_without_slurm_there_are_no_jobs(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    watch = QueueWatch(lambda job, reason: None, logs)
    watch.cancel_jobs()
    watch.stop()


@pytest.mark.parametrize("busy", ["squeue", "scancel"])
def test_a_busy_slurm_is_asked_again_for_what_is_left(
    programs: Path, logs: Path, busy: str
) -> None:
    put_program(programs, "squeue", "")
    watch = QueueWatch(lambda job, reason: None, logs)
    refuse_once = f"test -e {programs}/asked || {{ touch {programs}/asked; exit 1; }}"
    actions = {
        "squeue": f"echo '{line('5', 'None', logs)}'",
        "scancel": f'echo "$*" > {programs}/cancelled',
    }
    for name, action in actions.items():
        put_program(programs, name, f"{refuse_once}; {action}" if name == busy else action)
    watch.cancel_jobs()
    watch.stop()
    assert (programs / "cancelled").read_text() == "5\n"


def test_a_queue_that_does_not_answer_is_a_warning(
    programs: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_program(programs, "squeue", "exit 1")
    put_program(programs, "scancel", f"touch {programs}/cancelled")
    watch = QueueWatch(lambda job, reason: None, logs)
    watch.cancel_jobs()
    watch.stop()
    assert not (programs / "cancelled").exists()
    assert capsys.readouterr().out.startswith("warning: squeue: ")


def test_jobs_that_cannot_be_cancelled_are_a_warning(
    programs: Path,
    logs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(programs))  # without scancel
    put_program(programs, "squeue", "")
    watch = QueueWatch(lambda job, reason: None, logs)
    put_program(programs, "squeue", f"echo '{line('5', 'None', logs)}'")
    watch.cancel_jobs()
    watch.stop()
    assert capsys.readouterr().out.startswith("warning: scancel 5: ")
