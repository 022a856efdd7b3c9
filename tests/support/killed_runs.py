"""Runs that are killed, and gone on with."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from support.paths import ROOT
from support.workflow_runs import (
    SNAKEMAKE,
    STARTED_JOBS,
    TIME_LIMIT,
    ForkedSnakemake,
    environment,
    run_workflow,
    write_config,
)

SCRIPTS = ("map_partitions.py", "reduce_margins.py", "finish_margin.py")


def resume(directory: Path) -> str:
    """Give the same command again, after `--unlock` if Snakemake asks for it; return its output."""
    again = run_workflow(directory)
    if again.returncode and "--unlock" in again.stdout:
        run_workflow(directory, "--unlock", check=True)
        again = run_workflow(directory)
    assert again.returncode == 0, again.stdout
    return again.stdout


class Run:
    """A run that can be killed, in a process group of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "--directory", directory, "--cores", "2"]
        words = [str(part) for part in (*command, *arguments)]
        self.start = time.monotonic()
        self.log = directory / "killed.log"
        # Its jobs start as those of users do, so that they can be met before they begin to work.
        self.main = ForkedSnakemake(words, self.log, environment() | {STARTED_JOBS: "1"})
        self.family: list[psutil.Process] = []

    def runs(self) -> bool:
        return self.main.poll() is None

    def descendants(self) -> list[psutil.Process]:
        found = self.main.children()
        self.family += [process for process in found if process not in self.family]
        return found

    def workers(self, script: str = "") -> list[psutil.Process]:
        """The jobs at work, without the shells around them."""
        found = []
        for process in self.descendants():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if len(line) > 1 and Path(line[1]).name in ([script] if script else SCRIPTS):
                found.append(process)
        return found

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, or the run has ended."""
        while self.runs() and not condition():
            assert time.monotonic() - self.start < TIME_LIMIT
            time.sleep(0.02)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Suspend a job meanwhile, so that the run cannot end."""
        suspended: list[psutil.Process] = []

        def suspend_one() -> bool:
            for process in self.workers():
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
                    suspended.append(process)
                    # A process that was about to end ends.
                    if process.status() == psutil.STATUS_STOPPED:
                        return True
            return False

        self.wait_for(suspend_one)
        yield
        for process in suspended:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def kill_group(self) -> None:
        self.descendants()
        if self.runs():
            self.main.kill_group()
        self.main.wait()

    def kill_main(self) -> None:
        self.descendants()
        if self.runs():
            self.main.kill()
        self.main.wait()

    def kill_worker(self, rng: random.Random) -> None:
        self.wait_for(self.workers)
        if workers := self.workers():
            rng.choice(workers).kill()
        self.main.wait(TIME_LIMIT)

    def wait_for_orphans(self) -> None:
        _, alive = psutil.wait_procs(self.family, timeout=TIME_LIMIT)
        assert not alive


@contextmanager
def run_of(directory: Path, config: Mapping[str, Any], *arguments: str) -> Iterator[Run]:
    """A run in a directory, of which nothing is left at the end."""
    write_config(directory, config)
    run = Run(directory, *arguments)
    try:
        yield run
    finally:
        run.kill_group()
        for process in run.family:
            if process.is_running():
                process.kill()
        psutil.wait_procs(run.family, timeout=10)
