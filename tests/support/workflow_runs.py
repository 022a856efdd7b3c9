"""Runs of the whole workflow as a user starts them, and what such tests need around them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.prepare import prepare_margins
from margin_cache.margin.reduce import reduce_margins

from support.paths import ROOT

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
TIME_LIMIT = 300  # of a run [s]


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
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("snakemake_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
    )


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
    )


def fork_snakemake(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Do what the command does, only sooner; stdout of the result also has the errors."""
    server = snakemake_server()
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        run = {
            "arguments": command,
            "directory": str(Path.cwd()),
            "environment": environment(),
            "output": output.name,
        }
        print(json.dumps(run), file=server.stdin, flush=True)
        process = int(server.stdout.readline())
        limit = threading.Timer(TIME_LIMIT, os.killpg, (process, signal.SIGKILL))
        limit.start()
        code = int(server.stdout.readline())
        limit.cancel()
        return subprocess.CompletedProcess(command, code, output.read())


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
