"""A job that is killed, or whose system calls fail, at any of those that touch its files.

strace injects the fault into one system call of one job; the job is done again without it, then
those after it, and the margin has the same bytes.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.faults import Tally, outcome_after, outcome_of_end, sample
from support.faulty_margins import Site, commands, made, run_command, small_site

STAGES = ("begin", "map", "reduce", "finish")
CALLS = (
    "openat,write,pwrite64,writev,read,pread64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,flock,getdents64,close"
)
UNWRITTEN = {"read", "pread64", "getdents64", "flock"}  # which a full disk lets succeed
SHORT = 3  # cases of a stage in the short form
STRACE = ("strace", "-f", "--seccomp-bpf")
INJECTED = "(INJECTED)"
FAULTS = {"SIGKILL": "signal=KILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Site]:
    """The site as it is before each stage, and at the end."""
    strace = shutil.which("strace")
    probe = strace and subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode
    if probe != 0:
        reason = "strace, with which faults are injected, is missing or may not trace"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("crashes")
    site = small_site(root / "begin")
    lines = commands(site)
    found = {}
    for stage in STAGES:
        found[stage] = site
        site = site.copy(root / f"after-{stage}")
        for line in lines[stage]:
            finished = run_command(line, site.directory)
            assert finished.returncode == 0, finished.stdout
    found["end"] = site
    assert len(site.results()) > 15 and site.remains() == []
    return found


def touches(site: Site, call: str) -> bool:
    """Whether a system call, as strace shows it, is about a file of a site."""
    call = call.replace(f"AT_FDCWD<{site.directory}>", "")
    return any(word in call for word in (str(site.directory), '"sky', '"intermediate', '"results'))


def crash_points(site: Site, command: list[str], scratch: Path) -> list[tuple[str, int]]:
    """System calls of a job, and which of their kind in their process, that touch its files."""
    trace = scratch / "trace"
    site = site.copy(scratch / "traced")
    finished = run_command(
        command, site.directory, *STRACE, "-y", "-o", str(trace), "-e", f"trace={CALLS}"
    )
    assert finished.returncode == 0, finished.stdout
    counts: Counter[tuple[str, str]] = Counter()
    points = set()
    for line in trace.read_text(errors="replace").splitlines():
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if not match:
            continue
        process, call, rest = match.groups()
        counts[process, call] += 1
        if touches(site, rest):
            points.add((call, counts[process, call]))
    shutil.rmtree(site.directory)
    return sorted(points)


def crash(
    site: Site, command: list[str], point: tuple[str, int], fault: str, scratch: Path
) -> tuple[Site, str | None]:
    """Do a job with a fault; return the site as it is then, and how the job has ended.

    None if the fault has hit a file of Python's, since not all calls come in the same order.
    """
    site = site.copy(scratch / "crashed")
    call, when = point
    trace = scratch / "trace"
    finished = run_command(
        command,
        site.directory,
        *(*STRACE, "-y", "-o", str(trace), "-e", f"trace={call}"),
        *("-e", f"inject={call}:{FAULTS[fault]}:when={when}"),
    )
    if fault == "SIGKILL" and finished.returncode < 0:
        return site, ""
    injected = [line for line in trace.read_text(errors="replace").splitlines() if INJECTED in line]
    if not all(touches(site, line) for line in injected):
        return site, None
    return site, outcome_of_end(finished.returncode, finished.stdout)


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_that_crashes_at_any_system_call_can_be_repeated(
    stages: dict[str, Site], tally: Callable[[str], Tally], tmp_path: Path, stage: str
) -> None:
    counted = tally(f"crash points, {stage}")
    job = commands(stages["begin"])[stage][0]
    points = crash_points(stages[stage], job, tmp_path)
    assert len(points) > 8
    cases = [
        (point, fault)
        for fault in FAULTS
        for point in points
        if fault != "ENOSPC" or point[0] not in UNWRITTEN
    ]
    for point, fault in sample(cases, SHORT, f"crash points {stage}", 75):
        site, said = crash(stages[stage], job, point, fault, tmp_path)
        if said is None:
            shutil.rmtree(site.directory)
            continue
        outcome = outcome_after(said, partial(made, site, stages["end"].results()))
        counted.add(f"{fault} at {point[0]} {point[1]}", outcome)
        shutil.rmtree(site.directory)
