"""Runs in a directory with a catalog, and what is asked of one that is refused or fails."""

import os
import shutil
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from support.faulty_margins import make_margins, run_in_child
from support.margins import tree_digest
from support.workflow_runs import run_workflow

LAST_LINES = 10  # of the output: the error stands among them
THRESHOLD = 60.0
OTHER_THRESHOLD = 30.0
NAME = "small_60arcs"


@dataclass
class Site:
    """A directory with a catalog, and the configuration of a run there."""

    root: Path
    config: dict[str, Any] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)

    @property
    def catalog(self) -> Path:
        return self.root / "small"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def partition(self, number: int) -> Path:
        """File of a partition; 0 is the first, which is read before any job starts."""
        lines = (self.catalog / "partition_info.csv").read_text().split()[1:]
        order, pixel, group = lines[number].split(",")
        return self.catalog / f"Norder={order}" / f"Dir={group}" / f"Npix={pixel}.parquet"

    def whole_config(self) -> dict[str, Any]:
        return {
            "input_catalog_path": self.catalog,
            "output_path": self.output,
            "margin_threshold": THRESHOLD,
            **self.config,
        }

    def run(self) -> CompletedProcess[str]:
        """Run the workflow."""
        return run_workflow(self.root / "run", *self.arguments, config=self.whole_config())

    def make(self) -> tuple[int, str]:
        """Make the margin without Snakemake; return the exit code, and stages and error."""
        directory = self.root / "run"
        directory.mkdir(exist_ok=True)

        def make() -> None:
            with chdir(directory):
                make_margins(self.whole_config(), lambda stage: os.write(1, f"{stage}\n".encode()))

        return run_in_child(make)


Fault = Callable[[Site], None]


def with_finished_margin(site: Site, finished: Path) -> Site:
    """Give a site the margin that was made elsewhere, but not its intermediate files."""
    shutil.copytree(finished / "output", site.output)
    return site


def error_line(finished: CompletedProcess[str]) -> str:
    """The one line that says what is wrong; the output has all that is asked of a failed run."""
    assert finished.returncode != 0, finished.stdout
    assert "Traceback" not in finished.stdout, finished.stdout
    lines = finished.stdout.rstrip().splitlines()
    errors = {line for line in lines[-LAST_LINES:] if line.startswith("error: ")}
    assert len(errors) == 1, finished.stdout
    return errors.pop()


def assert_says(line: str, words: tuple[str, ...]) -> None:
    for word in words:
        assert word in line


def assert_run_is_refused(site: Site, *words: str) -> None:
    """A run of the workflow says what is wrong, starts no job and changes nothing."""
    catalog, output = tree_digest(site.catalog), tree_digest(site.output)
    finished = site.run()
    assert_says(error_line(finished), words)
    assert "Job stats" not in finished.stdout
    assert tree_digest(site.catalog) == catalog
    assert tree_digest(site.output) == output


def assert_run_fails_in_a_job(site: Site, *words: str) -> None:
    """A run of the workflow says what is wrong, and leaves neither a margin nor half of one."""
    catalog = tree_digest(site.catalog)
    assert_says(error_line(site.run()), words)
    assert tree_digest(site.catalog) == catalog
    assert list(site.output.glob("[!.]*")) == []


def assert_refused_before_any_job(site: Site, *words: str) -> None:
    """Without Snakemake: the error says what is wrong, no job starts and nothing changes."""
    catalog, output = tree_digest(site.catalog), tree_digest(site.output)
    output_existed = site.output.exists()
    code, said = site.make()
    first, *others = said.splitlines()
    assert (code, first, len(others)) == (1, "begin", 1), said
    assert others[0].startswith("error: ")
    assert_says(others[0], words)
    assert tree_digest(site.catalog) == catalog
    assert tree_digest(site.output) == output
    assert site.output.exists() == output_existed


def assert_fails_in_a_job(site: Site, *words: str) -> None:
    """Without Snakemake: the error says what is wrong, and what stood there is as it was."""
    catalog, output = tree_digest(site.catalog), tree_digest(site.output)
    code, said = site.make()
    assert code == 1 and "\nmap\n" in said, said
    assert said.splitlines()[-1].startswith("error: ")
    assert_says(said.splitlines()[-1], words)
    assert tree_digest(site.catalog) == catalog
    visible = {name: text for name, text in tree_digest(site.output).items() if name[0] != "."}
    assert visible == output
    if not output:
        assert list(site.output.glob("[!.]*")) == []


def zeroed_data(site: Site) -> None:
    """Fill all of partition 9 but its footer with zeros, which only a job finds."""
    path = site.partition(9)
    content = path.read_bytes()
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    path.write_bytes(b"PAR1" + bytes(len(content) - footer - 4) + content[-footer:])
