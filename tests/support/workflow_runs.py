"""Runs of the whole workflow as a user starts them, and what such tests need around them."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.prepare import prepare_margins
from margin_cache.margin.reduce import reduce_margins

from support.paths import ROOT
from support.signals import default_signals

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
TIME_LIMIT = 300  # of a run [s]
STARTED_JOBS = "STARTED_JOBS"
"""A variable of the environment of runs whose jobs are started anew, and not forked."""


def run_workflow(
    directory: str | Path,
    *arguments: str | Path,
    config: Mapping[str, Any] | None = None,
    cores: int = 2,
    check: bool = False,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a directory.

    Args:
        directory: working directory of the run, made if it is missing.
        arguments: further ones for snakemake; the last can be `--config`, `key=value`, ...
        config: written to the directory's config/config.yaml; None leaves what is there.
        cores: for snakemake's `--cores`.
        check: whether a run that fails is an AssertionError, which shows its output.
        fresh: whether Snakemake is started anew, and not forked off, which is much sooner.
    Returns:
        the finished process; its stdout also has what it wrote to stderr.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if config is not None:
        write_config(directory, config)
    command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "--directory", directory, "--cores", cores]
    words = [str(part) for part in (*command, *arguments)]
    finished = start_snakemake(words) if fresh else fork_snakemake(words)
    if check:
        assert finished.returncode == 0, finished.stdout
    return finished


@cache
def snakemake_server() -> subprocess.Popen[str]:
    """The process that Snakemake's runs are forked from; it ends with this one."""
    server = subprocess.Popen(
        # Long enough for the command of a job, which takes its place.
        [sys.executable, Path(__file__).with_name("snakemake_server.py"), "-" * 4000],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=environment() | {"PYTHONPATH": str(ROOT / "scripts"), "NUMBA_DISABLE_JIT": "1"},
        preexec_fn=default_signals,
    )

    def end() -> None:
        """Wait for it, so that `time make test` counts what its runs have taken."""
        with suppress(subprocess.TimeoutExpired):
            server.communicate(timeout=10)

    atexit.register(end)
    return server


def environment() -> dict[str, str]:
    """The environment of runs, without what makes them other than those of most users."""
    unusual = {"SNAKEMAKE_PROFILE", "PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS"}
    return {name: value for name, value in os.environ.items() if name not in unusual}


def start_snakemake(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command; stdout of the result also has the errors."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=environment(),
        timeout=TIME_LIMIT,
        preexec_fn=default_signals,
    )


class ForkedSnakemake:
    """Snakemake at work, forked from the server, in a process group of its own."""

    def __init__(
        self, command: list[str], output: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start it, with its environment or the usual one; it writes to a file, or a terminal."""
        self.command = command
        self._code = _exit_codes() / str(next(_numbers))
        run = {
            "arguments": command,
            "directory": str(Path.cwd()),
            "environment": environment() if variables is None else dict(variables),
            "output": str(output),
            "code": str(self._code),
        }
        server = snakemake_server()
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps(run), file=server.stdin, flush=True)
        self.pid = int(server.stdout.readline())

    def poll(self) -> int | None:
        """The exit code, once there is one."""
        return int(self._code.read_text()) if self._code.exists() else None

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def wait(self, timeout: float = TIME_LIMIT) -> int:
        """Wait for the end, and return the exit code."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.command, timeout)
            time.sleep(0.005)
        return code

    def children(self) -> list[psutil.Process]:
        """All processes that it has started, and those that they have."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


_numbers = count()


@cache
def _exit_codes() -> Path:
    """A directory for the exit codes of runs."""
    directory = Path(tempfile.mkdtemp(prefix="exit-codes-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def fork_snakemake(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Do what the command does, only sooner; stdout of the result also has the errors."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        run = ForkedSnakemake(command, Path(output.name))
        try:
            code = run.wait()
        finally:
            if run.poll() is None:
                run.kill_group()
        return subprocess.CompletedProcess(command, code, output.read())


def set_in_runs(patch: pytest.MonkeyPatch, directory: Path, name: str, value: object) -> None:
    """Have runs work with another value of a constant, as notification.TIMEOUT.

    It is set by a module that Python loads at its start; the jobs of a run have the usual value.
    """
    module, _, constant = f"margin_cache.{name}".rpartition(".")
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(
        "import sys\n"
        "if any(part.endswith('/snakemake') for part in sys.orig_argv[:2]):\n"
        f"    sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        f"    import {module}\n"
        f"    {module}.{constant} = {value!r}\n"
    )
    patch.setenv("PYTHONPATH", str(directory))


def write_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Write a working directory's config/config.yaml; paths become text."""
    file = directory / "config" / "config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(plain(config), allow_unicode=True), encoding="utf-8")


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with paths as text."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in config.items()}


def without_snakemake(config: Mapping[str, Any]) -> Iterator[Margin]:
    """Do all jobs of margins but their last, in this process and the current directory.

    That is sooner done than with three processes for each. A margin is given when it is ready to
    be finished, before the next is begun.
    """
    for margin in prepare_margins(settings_of_margins(plain(config))):
        save_margin(margin)
        plan = margin.plan
        for job, name in enumerate(plan.map_names):
            map_partitions(plan, job, margin.files.shard(name))
        for job in range(len(plan.reduce_names)):
            reduce_margins(plan, job, margin.files, margin.files.staging_dir)
        yield margin
