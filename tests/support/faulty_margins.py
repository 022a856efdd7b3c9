"""A small catalog and its margin, stage by stage, in a directory that faults are injected into."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
from margin_cache.config.validation import settings_of_margins
from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing import check_output, has_leftovers, is_complete, missing_receipts
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import Margin
from margin_cache.margin.prepare import prepare_margins, start_margin
from margin_cache.margin.reduce import reduce_margins
from margin_cache.parquet import row_selection
from margin_cache.process import one_line

from support.margins import NAME, configuration, remains, tree_digest
from support.paths import ROOT
from support.small_skies import small_catalog
from support.unprivileged import drop_privileges
from support.workflow_runs import TIME_LIMIT, environment, plain

BEGIN = """
import argparse, json
from margin_cache.process import run
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.prepare import prepare_margins
from margin_cache.margin.existing import is_complete
from margin_cache.margin.existing import missing_receipts
from margin_cache.margin.prepare import start_margin
def main(config):
    (margin,) = prepare_margins(settings_of_margins(json.loads(config)))
    if not is_complete(margin):
        missing_receipts(margin)
        start_margin(margin)
    return 0
parser = argparse.ArgumentParser()
parser.add_argument("config")
run(main, parser)
"""
"""What the main process of a run does before its first job."""


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pyarrow.dataset", "healpy"])


@dataclass(frozen=True)
class Site:
    """A directory with a catalog, in which a margin is made.

    Attributes:
        directory: it; the margin will be in ``results`` there.
        config: the configuration.
    """

    directory: Path
    config: dict[str, Any]

    def margin(self) -> Margin:
        """The margin of the catalog as it is, planned."""
        with chdir(self.directory):
            (margin,) = prepare_margins(settings_of_margins(plain(self.config)))
            return margin

    def copy(self, directory: Path) -> "Site":
        """All of it, in another directory that did not exist; times of files are kept."""
        shutil.copytree(self.directory, directory, symlinks=True)
        return Site(directory, self.config)

    def results(self) -> dict[str, str]:
        """Digests of the margin's files but its provenance, which has the date."""
        digests = tree_digest(self.directory / "results" / NAME)
        digests.pop("provenance_info.json", None)
        return digests

    def remains(self) -> list[str]:
        """What a finished run leaves nothing of."""
        return remains(self.directory)


def small_site(directory: Path, **changes: Any) -> Site:
    """A site with a catalog of some 20 partitions; what is given changes the configuration."""
    small_catalog(directory / "sky", rows=600, max_rows=100)
    config = configuration(Path("sky"), partitions_per_job=12, margin_threshold=600.0)
    return Site(directory, config | changes)


def commands(site: Site) -> dict[str, list[list[str]]]:
    """The command lines of each stage, in order, as the rules have them; to be run in the site."""
    margin = site.margin()
    files, plan = margin.files, margin.plan
    # Without the working directory among the places that Python looks for modules in.
    python = [sys.executable, "-B", "-P"]

    def script(name: str, *arguments: object) -> list[str]:
        return [*python, str(ROOT / "scripts" / name), *map(str, arguments)]

    return {
        "begin": [[*python, "-c", BEGIN, json.dumps(plain(site.config))]],
        "map": [
            script(
                "map_partitions.py",
                *("--plan", files.plan, "--job", job, "--shard", files.shard(job)),
            )
            for job in plan.map_names
        ],
        "reduce": [
            script("reduce_margins.py", "--margin", files.margin_file, "--job", job)
            for job in plan.reduce_names
        ],
        "finish": [script("finish_margin.py", "--margin", files.margin_file)],
    }


def run_command(
    command: Sequence[str], directory: Path, *before: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line of a stage in a site's directory, perhaps by another command."""
    return subprocess.run(
        [*before, *command],
        cwd=directory,
        env=environment() | {"PYTHONPATH": str(ROOT / "scripts")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=TIME_LIMIT,
    )


Pause = Callable[[str], None]
"""Called with the name of a stage before it begins."""


def no_pause(stage: str) -> None:
    pass


def make_margin(site: Site, pause: Pause = no_pause) -> None:
    """Make the margin of a site as a run does, without Snakemake."""
    with chdir(site.directory):
        make_margins(site.config, pause)


def make_margins(config: Mapping[str, Any], pause: Pause = no_pause) -> None:
    """Make the margins of a configuration: those jobs are done whose files are not there."""
    pause("begin")
    margins = prepare_margins(settings_of_margins(plain(config)))
    pending = [m for m in margins if not is_complete(m) or has_leftovers(m)]
    for margin in pending:
        check_output(margin)
    for margin in pending:
        plan, files = margin.plan, margin.files
        receipts = [] if is_complete(margin) else missing_receipts(margin)
        start_margin(margin)
        missing = [plan.reduce_job_of(receipt.stem) for receipt in receipts]
        pause("map")
        for need in sorted({int(need) for job in missing for need in plan.needs_of(job)}):
            shard = files.shard(plan.map_names[need])
            if not shard.exists():
                map_partitions(plan, need, shard)
        pause("reduce")
        for job in missing:
            reduce_margins(plan, job, files, files.staging_dir)
        pause("finish")
        finish_margin(margin)


def run_in_child(call: Callable[[], object]) -> tuple[int, str]:
    """Call a function in a process of its own; return its exit code and what it has said.

    The code is negative if a signal has ended it, as an abort of the interpreter does.
    """
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            if "polars" in sys.modules:
                # Its threads do not survive a fork; PyArrow reads the same rows.
                row_selection._LEAST_VALUES = sys.maxsize
            _call_and_exit(call, said.fileno())
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")


def make_by_polars(site: Site) -> tuple[int, str]:
    """Make a margin as `run_in_child` calls a function, with rows by Polars, as of large files.

    The process is forked off one that has not used Polars, as this one may have.
    """
    with tempfile.NamedTemporaryFile() as said:
        child = SERVER.Process(target=_make_by_polars, args=(site, Path(said.name)))
        child.start()
        child.join()
        assert child.exitcode is not None
        return child.exitcode, said.read().decode(errors="replace")


def _make_by_polars(site: Site, said: Path) -> None:
    row_selection._are_few = lambda part, rows: True
    with said.open("ab") as file:
        _call_and_exit(lambda: make_margin(site), file.fileno())


def _call_and_exit(call: Callable[[], object], said: int) -> NoReturn:
    """Call a function, write what is said into a file, and end this process."""
    code = 1
    signal.alarm(TIME_LIMIT)  # rather a test that fails than a suite that hangs
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        call()
        code = 0
    except (MarginCacheError, OSError) as error:
        os.write(2, one_line(error).encode(errors="replace"))
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)


def make_in(directory: Path, config: Mapping[str, Any]) -> None:
    """Make margins in a directory, without Snakemake and in a process of its own."""

    def make() -> None:
        with chdir(directory):
            make_margins(config)

    code, said = run_in_child(make)
    assert code == 0, said


def without_privileges(call: Callable[[], object]) -> tuple[int, str]:
    """Call a function in a process to which permissions apply."""

    def call_without() -> None:
        drop_privileges()
        call()

    return run_in_child(call_without)


def made(site: Site, right: dict[str, str]) -> None:
    """Assert that the next run makes a margin with these bytes, and leaves nothing else."""
    code, said = run_in_child(lambda: make_margin(site))
    assert code == 0, said
    assert site.results() == right
    assert site.remains() == []


def rows_of(site: Site) -> dict[str, pa.Table]:
    """The rows of a margin's files, in their order."""
    margin = site.directory / "results" / NAME
    files = sorted(margin.rglob("Npix=*.parquet"))
    return {str(file.relative_to(margin)): pq.ParquetFile(file).read() for file in files}


def as_pyarrow_reads(site: Site, scratch: Path, *partitions: Path, of: Site | None = None) -> None:
    """Assert that the margin is that of a catalog which PyArrow has read and written again.

    Args:
        site: the site, with its margin.
        scratch: a directory for the other catalog.
        partitions: those that are written again; all, if none is given.
        of: the site of the catalog; the same, if none is given.
    """
    of = of or site
    other = Site(scratch / "again", site.config)
    shutil.copytree(of.directory / "sky", other.directory / "sky")
    for partition in partitions or of.directory.glob("sky/**/Npix=*.parquet"):
        copy = other.directory / partition.relative_to(of.directory)
        # Without what is beside the rows: the one of its two places that is read may be damaged.
        table = pq.ParquetFile(partition).read().replace_schema_metadata(None)
        pq.write_table(table, copy, compression="none", use_dictionary=False)
    try:
        code, said = run_in_child(lambda: make_margin(other))
        assert code == 0, said
        assert equal_bits(rows_of(site), rows_of(other)), "other rows or values"
    finally:
        shutil.rmtree(other.directory)


def equal_bits(first: dict[str, pa.Table], second: dict[str, pa.Table]) -> bool:
    """Whether tables are the same; NaN is, if it has the same bits."""
    return first.keys() == second.keys() and all(
        first[name].schema.equals(second[name].schema)
        and plainly_written(first[name]) == plainly_written(second[name])
        for name in first
    )


def plainly_written(table: pa.Table) -> bytes:
    """A table as a file that has all its values as they are, and nothing under its nulls."""
    sink = pa.BufferOutputStream()
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table.combine_chunks().replace_schema_metadata(None), sink, **options)
    return sink.getvalue().to_pybytes()
