"""Where all files of a margin are.

All files of a plan are in ``tmp_dir/NAME/PLAN_ID``. The margin is built in a hidden directory
beside its output directory, and moved there when it is complete; one at a URL in ``tmp_dir/NAME``.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from margin_cache.catalog.spec import PROVENANCE_INFO
from margin_cache.storage.urls import absolute_location, is_url

PLAN = "{plan_dir}/plan.npz"
MARGIN = "{plan_dir}/margin.json"
SHARD = "{plan_dir}/shards/{job}.arrow"
RECEIPT = "{plan_dir}/receipts/{job}.json"
FOOTERS = "{plan_dir}/receipts/{job}.parquet"
DONE = "{plan_dir}/done-{fingerprint}.json"
MAP_LOG = "{plan_dir}/logs/map_partitions/{job}.log"
REDUCE_LOG = "{plan_dir}/logs/reduce_margins/{job}.log"
FINISH_LOG = "{plan_dir}/logs/finish_margin/{fingerprint}.log"
MAP_BENCHMARK = "{plan_dir}/benchmarks/map_partitions/{job}.tsv"
REDUCE_BENCHMARK = "{plan_dir}/benchmarks/reduce_margins/{job}.tsv"
FINISH_BENCHMARK = "{plan_dir}/benchmarks/finish_margin/{fingerprint}.tsv"
AUDIT_REQUEST = "{audit_dir}/request.json"
AUDIT_FINDINGS = "{audit_dir}/findings/{job}.json"
AUDIT_LOG = "{audit_dir}/logs/audit_pixels/{job}.log"
AUDIT_BENCHMARK = "{audit_dir}/benchmarks/audit_pixels/{job}.tsv"
AUDITS_LOG = "{audits_dir}/audit.log"
REPORT_PAGE = "{report_dir}/index.html"
FIGURE = "{report_dir}/{figure}.png"
REPORT_LOG = "{report_dir}/report.log"

FIGURES = {
    "orders": "Orders of the partitions",
    "margin_rows": "Margin rows of each pixel",
    "margin_share": "Margin rows in percent of the partition's own rows",
    "histograms": "Rows and sizes of the margin's files",
}
"""Names and titles of the figures of a report."""

PROVENANCE = PROVENANCE_INFO

_STAGING_LOCK = ".run.lock"

TMP_DIR = "intermediate"
"""Directory of the intermediate files of all margins, unless tmp_dir is set."""


class _Below:
    """A file or directory in the directory of a plan."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, files: "PlanFiles", owner: type) -> Path:
        return files.plan_dir / self._name


@dataclass(frozen=True)
class PlanFiles:
    """The intermediate files of a plan, all in one directory."""

    plan_dir: Path

    plan = _Below("plan.npz")
    margin_file = _Below("margin.json")  # the margin as the main process has prepared it, for jobs
    plan_lock = _Below("run.lock")  # held by a run that makes this plan's margin
    storage_file = _Below("storage.json")  # where jobs find the storage options of the catalog ...
    output_storage_file = _Below("output_storage.json")  # ... and of the output bucket
    run_token = _Below("run_token.json")  # of the run that has locked a margin at a URL, for jobs
    provenance_copy = _Below("provenance.json")  # of a margin at a URL, for Snakemake
    listing = _Below("listing.json")  # the files of a remote catalog, in the states that jobs read
    downloads_dir = _Below("fetched")  # parts of a remote catalog that jobs have downloaded
    shards_dir = _Below("shards")
    receipts_dir = _Below("receipts")

    def shard(self, job: str) -> Path:
        return Path(SHARD.format(plan_dir=self.plan_dir, job=job))

    def receipt(self, job: str) -> Path:
        return Path(RECEIPT.format(plan_dir=self.plan_dir, job=job))

    def footers(self, job: str) -> Path:
        return Path(FOOTERS.format(plan_dir=self.plan_dir, job=job))


@dataclass(frozen=True)
class MarginFiles(PlanFiles):
    """The files of a margin.

    Attributes:
        output_dir: directory of the finished margin. If it is at a URL there is none, but the
            hidden directories in which it is made are beside this path.
        url: URL of the margin, "" if it is on disk.
    """

    output_dir: Path
    url: str = ""

    @property
    def location(self) -> str:
        return self.url or str(self.output_dir)

    @property
    def pages_dir(self) -> Path:
        return Path() if self.url else self.output_dir.parent

    @property
    def report_dir(self) -> Path:
        return self.pages_dir / f"{self.output_dir.name}_report"

    @property
    def report_page(self) -> Path:
        return Path(REPORT_PAGE.format(report_dir=self.report_dir))

    @property
    def audit_file(self) -> Path:
        return self.pages_dir / f"{self.output_dir.name}_audit/audit.json"

    @property
    def staging_dir(self) -> Path:
        """Reduce jobs write the margin's files into it."""
        return self._beside("staging")

    @property
    def backup_dir(self) -> Path:
        """Where an older margin is while the new one takes its place."""
        return self._beside("backup")

    @property
    def staging_lock(self) -> Path:
        """Locked by a run that makes this margin."""
        return self.staging_dir / _STAGING_LOCK

    def finishing_dir(self, process_id: str) -> Path:
        """Return where a process with a ``unique_id`` puts the staged files together."""
        return self._beside(f"finishing-{process_id}")

    def left_behind(self) -> list[Path]:
        """Return the hidden directories that runs have made beside this margin, for any plan."""
        # The whole name, because the name of another margin may begin with this one's.
        pattern = re.compile(
            rf"\.{re.escape(self.output_dir.name)}\.[0-9a-f]{{16}}\."
            r"(staging|finishing-[0-9a-f]{12}|backup)(\.deleted)?"
        )
        if not self.output_dir.parent.is_dir():
            return []
        return [path for path in self.output_dir.parent.iterdir() if pattern.fullmatch(path.name)]

    def staging_locks(self) -> list[Path]:
        return [
            path / _STAGING_LOCK for path in self.left_behind() if path.name.endswith(".staging")
        ]

    def _beside(self, use: str) -> Path:
        return self.output_dir.with_name(f".{self.output_dir.name}.{self.plan_dir.name}.{use}")


def audit_results_dir(output_path: str, margin: str) -> Path:
    """Return the directory of the results of an audit, below ``output_path`` if that is on disk.

    Margins of one name in different places have different ones.
    """
    place, _, name = absolute_location(margin).rpartition("/")
    if place != absolute_location(output_path):
        name += f"-{hashlib.blake2b(os.fsencode(place), digest_size=4).hexdigest()}"
    return Path("" if is_url(output_path) else output_path, f"{name}_audit")


def audit_storage_files(directory: Path) -> tuple[Path, Path]:
    """Return where jobs of an audit find the storage options of the primary and of the margin."""
    return directory / "storage.json", directory / "margin_storage.json"


def job_of(path: Path) -> str:
    """Return the plan's id and the job's name, from the path of a shard or a receipt."""
    return f"{path.parents[1].name}/{path.stem}"


def is_of_this_run(log: str) -> bool:
    """Return whether a log is newer than the lock of its plan, by the clock of their file system.

    True for logs that belong to no plan.
    """
    try:
        began = PlanFiles(Path(log).parents[2]).plan_lock.stat().st_mtime
        return Path(log).stat().st_mtime >= began
    except (IndexError, OSError):
        return True
