"""Where all files of a margin lie, for the rules of the workflow and for the stages.

The settings and the id of the plan, for processes that the main one starts, are in
``tmp_dir/NAME/margin.json``; all else of a plan is in ``tmp_dir/NAME/PLAN_ID``. The margin is built
in a hidden directory beside its output directory, and moved there when it is whole.
"""

from dataclasses import dataclass
from pathlib import Path

PLAN = "{plan_dir}/plan.npz"
SHARD = "{plan_dir}/shards/{job}.arrow"
RECEIPT = "{plan_dir}/receipts/{job}.json"
FOOTERS = "{plan_dir}/receipts/{job}.parquet"
DONE = "{plan_dir}/done-{fingerprint}.json"
MAP_LOG = "{plan_dir}/logs/map_partitions/{job}.log"
REDUCE_LOG = "{plan_dir}/logs/reduce_margins/{job}.log"
FINISH_LOG = "{plan_dir}/logs/finish_margin/{fingerprint}.log"

PROVENANCE = "provenance_info.json"


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
        output_dir: directory of the finished margin.
    """

    output_dir: Path

    @property
    def intermediate_dir(self) -> Path:
        """The directory of the intermediate files of all margins of this name."""
        return self.plan_dir.parent

    @property
    def margin_file(self) -> Path:
        """What the main process tells other processes of the margin."""
        return margin_file(self.intermediate_dir)

    @property
    def staging_dir(self) -> Path:
        """The directory in which the margin is built."""
        return self._beside("staging")

    @property
    def backup_dir(self) -> Path:
        """Where an older margin is in the moment in which it is replaced."""
        return self._beside("backup")

    def left_behind(self) -> list[Path]:
        """Return what interrupted runs have left beside the output directory."""
        return [
            path
            for use in ("staging", "backup")
            for path in self.output_dir.parent.glob(f".{self.output_dir.name}.*.{use}")
        ]

    def _beside(self, use: str) -> Path:
        return self.output_dir.with_name(f".{self.output_dir.name}.{self.plan_dir.name}.{use}")


def intermediate_dir(tmp_dir: str, name: str) -> Path:
    """Return the directory of the intermediate files of all margins of a name."""
    return Path(tmp_dir or "intermediate") / name


def margin_file(directory: Path) -> Path:
    """Return what the main process tells others of a margin, by its intermediate directory."""
    return directory / "margin.json"


def margin_files(tmp_dir: str, output_path: str, name: str, plan_id: str) -> MarginFiles:
    """Return the files of a margin.

    Args:
        tmp_dir: directory of the intermediate files; empty for "intermediate".
        output_path: directory in which the margin's directory is.
        name: name of the margin.
        plan_id: id of its plan.
    """
    return MarginFiles(intermediate_dir(tmp_dir, name) / plan_id, Path(output_path) / name)
