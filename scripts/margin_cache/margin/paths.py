"""Where all files of a margin lie, for the rules of the workflow and for the stages.

All files of a plan are in ``tmp_dir/NAME/PLAN_ID``; those of margins that have the same name in
one run in ``tmp_dir/NAME-DIGEST/PLAN_ID``, with a digest of the output path. The margin is built in
a hidden directory beside its output directory, and moved there when it is whole.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from margin_cache.catalog.spec import PROVENANCE_INFO
from margin_cache.storage.files import is_locked
from margin_cache.storage.urls import join_url

PLAN = "{plan_dir}/plan.npz"
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
AUDIT_PIECE = "{audit_dir}/pieces/{job}.json"
AUDIT_LOG = "{audit_dir}/logs/audit_pixels/{job}.log"
AUDIT_BENCHMARK = "{audit_dir}/benchmarks/audit_pixels/{job}.tsv"
AUDITS_LOG = "{audits_dir}/audit.log"
REPORT_PAGE = "{report_dir}/index.html"
FIGURE = "{report_dir}/{figure}.png"
REPORT_LOG = "{report_dir}/report.log"

FIGURES = ("orders", "margin_rows", "margin_share", "histograms", "costs", "partition")
"""Names of the figures of a report."""

PROVENANCE = PROVENANCE_INFO


@dataclass(frozen=True)
class PlanFiles:
    """The files of a plan, all intermediate.

    Attributes:
        plan_dir: their directory.
    """

    plan_dir: Path

    @property
    def plan(self) -> Path:
        """The plan itself."""
        return self._path(PLAN)

    @property
    def margin_file(self) -> Path:
        """What the main process tells other processes of the margin."""
        return self.plan_dir / "margin.json"

    @property
    def plan_lock(self) -> Path:
        """The file that a run at work at this plan has locked."""
        return self.plan_dir / "run.lock"

    @property
    def storage_file(self) -> Path:
        """Where jobs find the options for the store of a remote catalog."""
        return self.plan_dir / "storage.json"

    @property
    def output_storage_file(self) -> Path:
        """Where jobs find the options for the store that a margin is written to, if it is one."""
        return self.plan_dir / "output_storage.json"

    @property
    def downloads_dir(self) -> Path:
        """The directory of what jobs at work have fetched of a remote catalog."""
        return self.plan_dir / "fetched"

    @property
    def shards_dir(self) -> Path:
        """The directory of the shards."""
        return self.shard("").parent

    @property
    def receipts_dir(self) -> Path:
        """The directory of the receipts and the footers."""
        return self.receipt("").parent

    @property
    def provenance_copy(self) -> Path:
        """The copy of the provenance of the margin that was last moved to its output directory."""
        return self.plan_dir / "provenance.json"

    def benchmarks_dir(self, rule: str) -> Path:
        """Return the directory of what Snakemake says that the jobs of a rule have cost."""
        return self.plan_dir / "benchmarks" / rule

    def shard(self, job: str) -> Path:
        """Return the shard of a map job."""
        return self._path(SHARD, job=job)

    def receipt(self, job: str) -> Path:
        """Return the receipt of a reduce job."""
        return self._path(RECEIPT, job=job)

    def footers(self, job: str) -> Path:
        """Return the footers of the files of a reduce job."""
        return self._path(FOOTERS, job=job)

    def done(self, fingerprint: str) -> Path:
        """Return the file that is written last of all, for a state of the catalog."""
        return self._path(DONE, fingerprint=fingerprint)

    def _path(self, pattern: str, **wildcards: str) -> Path:
        return Path(pattern.format(plan_dir=self.plan_dir, **wildcards))


@dataclass(frozen=True)
class MarginFiles(PlanFiles):
    """The files of a margin.

    Attributes:
        output_dir: directory of the finished margin; or what shows on disk which objects there are,
            if it is written to a URL.
        url: the URL that it is written to, or nothing.
    """

    output_dir: Path
    url: str = ""

    @property
    def location(self) -> str:
        """Where users find the margin."""
        return self.url or str(self.output_dir)

    @property
    def pages_dir(self) -> Path:
        """The directory that reports and audits get theirs in."""
        return Path() if self.url else self.output_dir.parent

    @property
    def intermediate_dir(self) -> Path:
        """The directory of the intermediate files of this margin, be they of any plan."""
        return self.plan_dir.parent

    @property
    def report_dir(self) -> Path:
        """The directory of the margin's report."""
        return self.pages_dir / f"{self.output_dir.name}_report"

    @property
    def report_page(self) -> Path:
        """The page of the report."""
        return Path(REPORT_PAGE.format(report_dir=self.report_dir))

    @property
    def report_state(self) -> Path:
        """What the report was made from; written last of all."""
        return self.report_dir / "made_from.json"

    @property
    def audit_file(self) -> Path:
        """What an audit of the margin has found."""
        return audit_dir(self.pages_dir, self.output_dir.name) / "audit.json"

    @property
    def staging_dir(self) -> Path:
        """The directory that the reduce jobs write the margin's files into."""
        return self._beside("staging")

    @property
    def backup_dir(self) -> Path:
        """Where an older margin is in the moment in which it is replaced."""
        return self._beside("backup")

    @property
    def staging_lock(self) -> Path:
        """The file that a run at work at this margin has locked."""
        return staging_lock(self.staging_dir)

    def finishing_dir(self, mark: str) -> Path:
        """Return where a process puts the margin together, from what is in the staging directory.

        Args:
            mark: the process's own, as ``unique_id`` makes them.
        """
        return self._beside(f"finishing-{mark}")

    def left_behind(self) -> list[Path]:
        """Return the directories beside this margin that runs make, be they of any plan."""
        return _made_beside(self.output_dir)

    def other_staging_locks(self) -> list[Path]:
        """Return the locks of the staging directories of other plans for this margin."""
        return [
            staging_lock(path)
            for path in self.left_behind()
            if path != self.staging_dir and path.name.endswith(".staging")
        ]

    def _beside(self, use: str) -> Path:
        return self.output_dir.with_name(f".{self.output_dir.name}.{self.plan_dir.name}.{use}")


def _made_beside(output_dir: Path) -> list[Path]:
    # In full, or those of a margin whose name begins with this one's would be among them.
    pattern = re.compile(
        rf"\.{re.escape(output_dir.name)}\.[0-9a-f]{{16}}\."
        r"(staging|finishing-[0-9a-f]{12}|backup)(\.deleted)?"
    )
    if not output_dir.parent.is_dir():
        return []
    return [path for path in output_dir.parent.iterdir() if pattern.fullmatch(path.name)]


def is_being_made(output_dir: Path) -> bool:
    """Tell whether a run of any plan is at work at the margin in a directory."""
    return any(is_locked(staging_lock(path)) for path in _made_beside(output_dir))


def intermediate_dir(tmp_dir: str, name: str, output_path: str | None = None) -> Path:
    """Return the directory of the intermediate files of a margin.

    Args:
        tmp_dir: directory of the intermediate files of all margins; empty for "intermediate".
        name: name of the margin.
        output_path: directory in which the margin's directory is, if a run makes others of the
            same name elsewhere, whose files have to be kept apart.
    """
    directory = Path(tmp_dir or "intermediate") / name
    if output_path is None:
        return directory
    place = os.fsencode(Path(output_path).absolute())
    return directory.with_name(f"{name}-{hashlib.blake2b(place, digest_size=4).hexdigest()}")


def audit_dir(place: Path, name: str) -> Path:
    """Return the directory of the files of an audit of a margin, or that of its intermediate ones.

    Args:
        place: directory in which it is.
        name: name of the margin.
    """
    return place / f"{name}_audit"


def audit_request(directory: str) -> Path:
    """Return the file with what the jobs of an audit are asked to check."""
    return Path(directory) / "request.json"


def plan_dirs(directory: Path) -> list[Path]:
    """Return the directories of plans in the intermediate directory of a margin."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if PlanFiles(path).plan.exists())


def job_of(path: Path) -> str:
    """Return whose a shard or a receipt is: the id of its plan and the name of its job."""
    return f"{path.parents[1].name}/{path.stem}"


def is_of_this_run(log: str) -> bool:
    """Tell whether a log was written since the run at work began; not if it was by an earlier one.

    By the clock of the file system that both the log and the lock of the plan are on.
    """
    try:
        began = PlanFiles(Path(log).parents[2]).plan_lock.stat().st_mtime
        return Path(log).stat().st_mtime >= began
    except (IndexError, OSError):
        return True  # a log of something else


def staging_lock(staging_dir: Path) -> Path:
    """Return the file in a staging directory that a run at work there has locked."""
    return staging_dir / ".run.lock"


def margin_files(
    directory: Path, output_path: str, name: str, plan_id: str, listing_dir: str = ""
) -> MarginFiles:
    """Return the files of a margin.

    Args:
        directory: the directory of its intermediate files.
        output_path: directory or URL in which the margin's directory is.
        name: name of the margin.
        plan_id: id of its plan.
        listing_dir: directory of the local listing of `output_path`, "" if that is a local path.
    """
    if listing_dir:
        return MarginFiles(
            directory / plan_id, Path(listing_dir) / name, join_url(output_path, name)
        )
    return MarginFiles(directory / plan_id, Path(output_path) / name)
