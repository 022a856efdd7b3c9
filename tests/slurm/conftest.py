"""A SLURM cluster of two nodes on this machine, for the tests that need one."""

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT
from support.skips import lacking
from support.slurm_cluster import Cluster

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
NODES = ("n1", "n2")


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
        lacking(f"a SLURM cluster needs {', '.join(missing)}")
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
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/support/quick_slurm"))
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, started_cluster.environment[name])
    return started_cluster
