"""Runs in a directory with a catalog, and what is asked of one that is refused or fails."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

    def run(self):
        config = {
            "input_catalog_path": self.catalog,
            "output_path": self.output,
            "margin_threshold": THRESHOLD,
            **self.config,
        }
        return run_workflow(self.root / "run", *self.arguments, config=config)


Fault = Callable[[Site], None]


def with_finished_margin(site: Site, finished: Path) -> Site:
    """Give a site the margin that was made elsewhere, but not its intermediate files."""
    shutil.copytree(finished / "output", site.output)
    return site


def error_line(finished) -> str:
    """The one line that says what is wrong; the output has all that is asked of a failed run."""
    assert finished.returncode != 0, finished.stdout
    assert "Traceback" not in finished.stdout, finished.stdout
    lines = finished.stdout.rstrip().splitlines()
    errors = {line for line in lines[-LAST_LINES:] if line.startswith("error: ")}
    assert len(errors) == 1 and lines[-1] in errors, finished.stdout
    return errors.pop()


def assert_says(line: str, words: tuple[str, ...]):
    for word in words:
        assert word in line


def assert_refused_before_any_job(site: Site, *words: str):
    """A run says in its last line what is wrong, starts no job and changes nothing."""
    catalog, output = tree_digest(site.catalog), tree_digest(site.output)
    output_existed = site.output.exists()
    finished = site.run()
    line = error_line(finished)
    assert line == finished.stdout.rstrip().splitlines()[-1]
    assert_says(line, words)
    assert "Job stats" not in finished.stdout
    assert tree_digest(site.catalog) == catalog
    assert tree_digest(site.output) == output
    assert site.output.exists() == output_existed


def assert_fails_in_a_job(site: Site, *words: str):
    """A run says at its end what is wrong; neither a margin nor half of one has its name."""
    catalog, output = tree_digest(site.catalog), tree_digest(site.output)
    line = error_line(site.run())
    assert_says(line, words)
    assert tree_digest(site.catalog) == catalog
    visible = {name: text for name, text in tree_digest(site.output).items() if name[0] != "."}
    assert visible == output
    if not output:
        assert list(site.output.glob("[!.]*")) == []


def wrong_footer_length(number: int) -> Fault:
    """The magic bytes are there, but the footer is said to be longer than the file."""

    def fault(site: Site):
        path = site.partition(number)
        path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x0f" + b"PAR1")

    return fault
