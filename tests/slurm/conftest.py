"""A SLURM cluster of two nodes on this machine, for the tests that need one."""

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm-cluster.sh")
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
NODES = ("n1", "n2")
TIME_LIMIT = 120  # of whatever is waited for [s]


@dataclass(frozen=True)
class Cluster:
    """A running cluster; this process's environment is that of its users."""

    environment: dict[str, str]

    def do(self, *command: str) -> None:
        subprocess.run([SCRIPT, *command], env=self.environment, check=True)

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """Jobs, old ones as well, in the order in which they were submitted."""
        wanted = f"--states={','.join(states) or 'all'}"
        form = "--Format=JobID:20,State:20,MinMemory:20,NodeList:20,WorkDir:500"
        listed = subprocess.run(
            ["squeue", "--noheader", "--sort=i", wanted, form],
            check=True,
            capture_output=True,
            encoding="utf-8",
        ).stdout
        names = ("id", "state", "memory", "node", "directory")
        # A job that waits has no node.
        fields = [
            [line[at : at + 20].strip() for at in (0, 20, 40, 60)] + [line[80:].strip()]
            for line in listed.splitlines()
        ]
        return [dict(zip(names, values)) for values in fields]

    def jobs_of(self, directory: Path, *states: str) -> list[dict[str, str]]:
        return [job for job in self.jobs(*states) if job["directory"] == str(directory)]


def wait_for(condition: Callable[[], object], what: str) -> object:
    """Wait until something is true, and return it."""
    end = time.monotonic() + TIME_LIMIT
    while not (found := condition()):
        assert time.monotonic() < end, f"there is no {what} after {TIME_LIMIT} s"
        time.sleep(0.1)
    return found


def free_ports() -> int:
    """A port after which the next twenty are free."""
    while True:
        base = random.randrange(20_000, 30_000, 20)
        try:
            for port in range(base, base + 20):
                with socket.socket() as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return base


@pytest.fixture(scope="session")
def started_cluster() -> Iterator[Cluster]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if os.geteuid() != 0:
        missing.append("the rights of root, which its servers run with")
    if missing:
        reason = f"a SLURM cluster needs {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Not below pytest's own directories, which only their owner may enter.
    directory = Path(tempfile.mkdtemp(prefix="slurm-cluster-"))
    settings = {
        "DIR": directory,
        "PORT": free_ports(),
        "NODES": len(NODES),
        "CPUS": 2,
        "MEM": 16_000,
    }
    environment = {
        **os.environ,
        "PATH": f"{directory}/bin:{path}",
        "SLURM_CONF": f"{directory}/etc/slurm.conf",
        **{f"SLURMLAB_{name}": str(value) for name, value in settings.items()},
    }
    cluster = Cluster(environment)
    try:
        cluster.do("start")
        yield cluster
    finally:
        cluster.do("destroy")


@pytest.fixture
def cluster(started_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, started_cluster.environment[name])
    return started_cluster
