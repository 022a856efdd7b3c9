"""A SLURM cluster of two nodes on this machine, that tests/slurm/conftest.py starts."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

SCRIPT = ROOT / "tests/slurm/slurm-cluster.sh"
TIME_LIMIT = 120  # of whatever is waited for [s]


@dataclass(frozen=True)
class Cluster:
    """A running cluster; this process's environment is that of its users."""

    environment: dict[str, str]

    def do(self, *command: str) -> None:
        subprocess.run([SCRIPT, *command], env=self.environment, check=True)

    @property
    def directory(self) -> Path:
        """Where all of it lies."""
        return Path(self.environment["SLURMLAB_DIR"])

    def nodes_have_a_directory_of_their_own(self) -> bool:
        """Tell whether nodes see another directory `not_visible` than this process does."""
        not_visible = self.directory / "unseen"
        (not_visible / "here").touch()
        look = ["srun", "--mem=10", "ls", str(not_visible)]
        return not subprocess.run(look, check=True, capture_output=True).stdout

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
