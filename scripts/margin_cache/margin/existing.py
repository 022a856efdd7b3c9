"""What exists of a margin: whether it is complete, which jobs are done, what may be replaced.

Also deletes what interrupted runs have left.
"""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.partitions import ends_digest
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints
from margin_cache.margin.model import Margin, settings_as_json
from margin_cache.margin.output import Output
from margin_cache.margin.paths import PROVENANCE, MarginFiles, PlanFiles, job_of
from margin_cache.planning.model import Plan, is_current
from margin_cache.storage.files import (
    delete_directory,
    has_size,
    is_locked,
    is_temporary,
    read_json,
    write_json,
)
from margin_cache.storage.urls import is_url

TOOL_NAME = "snakemake-margin-cache"

# Keys of a provenance
RUN_ID = "run_id"  # the run that made the margin, if it was one with ``resume: false``
UNFINISHED = "unfinished"  # the margin is being written to a URL, and some files are missing
CATALOG_PATH = "input_catalog_absolute_path"  # the path in the configuration may be relative
CATALOG_CONTENT = "input_content"  # digest of its files, which copies share; last change (ns)

_WITHOUT_INFLUENCE = (
    "output_path",
    "output_artifact_name",
    "overwrite",
    "tmp_dir",
    "delete_intermediate_parquet_files",
    "resume",
    "partitions_per_job",
    "job_size_mb",
)
"""Settings without influence on the content of a margin."""


def is_complete(margin: Margin) -> bool:
    """Return whether the margin that is there is whole, and of the catalog as it is now.

    With ``resume: false``, only if this run has made it. Files are checked by size or ETag, without
    reading them.
    """
    provenance = read_provenance(margin.output)
    run_id = margin.plan.parameters.run_id
    return (
        provenance is not None
        and UNFINISHED not in provenance
        and run_id in ("", provenance.get(RUN_ID))
        and margin.plan.content_id == provenance["content_id"]
        and _is_of_same_catalog(provenance, margin)
        and is_current(provenance["library"], margin.plan.library)
        and all(margin.output.has(path, listed) for path, listed in provenance["files"].items())
    )


def _is_of_same_catalog(provenance: Mapping[str, Any], margin: Margin) -> bool:
    """Return whether a margin was made from the catalog as it is now, perhaps in another place.

    Copying may change the times of all files to the present. A catalog in another place with such
    files is compared by content.
    """
    plan = margin.plan
    info = plan.parameters.catalog
    if provenance["input_fingerprint"] == plan.input_fingerprint:
        return True
    if margin.files.url or provenance.get(CATALOG_PATH) == info.absolute_location:
        return False
    digest, newest = provenance.get(CATALOG_CONTENT) or ("", 0)
    are_all_newer = bool(plan.partitions.times.min() > newest)
    return bool(digest) and are_all_newer and digest == ends_digest(info, plan.partitions)


def has_leftovers(margin: Margin) -> bool:
    """Return whether a complete margin needs its finishing job once more, and no other job.

    That job registers the margin in its collection, records where the catalog is now, and deletes
    what a killed run has left. False while another run is active here, because that run does it.
    """
    files = margin.files
    if any(is_locked(lock) for lock in (files.plan_lock, *files.staging_locks())):
        return False
    collection = margin.output.collection(margin.plan.parameters.catalog)
    provenance = read_provenance(margin.output) or {}
    return (
        bool(files.left_behind())
        or (files.receipts_dir.exists() and not margin.done_file.exists())
        or (margin.settings.delete_intermediate_parquet_files and files.shards_dir.exists())
        or margin.output.is_left_locked()
        or (collection is not None and not collection.lists(files.location))
        or provenance.get("input_fingerprint") != margin.plan.input_fingerprint
    )


def listing(margin: Margin) -> dict[str, Any]:
    """Return the location of the collection around a margin, and whether it is its default."""
    collection = margin.output.collection(margin.plan.parameters.catalog)
    return {
        "collection": collection.location if collection else "",
        "is_default": bool(collection and collection.has_default(margin.files.location)),
    }


def record_catalog(margin: Margin) -> None:
    """Record in a complete margin where its catalog is now, and the state of that.

    From then on, a change of the catalog is noticed by the time of the changed file.
    """
    record = margin.output.read_json(PROVENANCE)
    arguments = record["tool_args"]["runtime_args"]
    if arguments["input_fingerprint"] != margin.plan.input_fingerprint:
        arguments |= catalog_record(margin.plan)
        write_json(margin.files.output_dir / PROVENANCE, record)


def catalog_record(plan: Plan) -> dict[str, Any]:
    """Return what a provenance records of the place and the state of a catalog."""
    info = plan.parameters.catalog
    return {
        CATALOG_PATH: info.absolute_location,
        "input_fingerprint": plan.input_fingerprint,
        CATALOG_CONTENT: [ends_digest(info, plan.partitions), int(plan.partitions.times.max())],
    }


def provenance_file(margin: Margin) -> Path:
    """Return the provenance of a complete margin, for Snakemake; at a URL, update a copy of it."""
    if not margin.files.url:
        return margin.files.output_dir / PROVENANCE
    record = margin.output.read_json(PROVENANCE)
    if read_json(margin.files.provenance_copy) != record:
        write_json(margin.files.provenance_copy, record)
    return margin.files.provenance_copy


def read_provenance(output: Output) -> Mapping[str, Any] | None:
    """Return the arguments that a margin of this workflow was made with, else None."""
    try:
        tool = output.read_json(PROVENANCE)["tool_args"]
        arguments = tool["runtime_args"]
        is_whole = arguments["content_id"] and isinstance(arguments["files"], dict)
        return arguments if tool["tool_name"] == TOOL_NAME and is_whole else None
    except (TypeError, KeyError):
        return None


def existing_files(margin: Margin) -> dict[str, list[Any]]:
    """Return size and digest of the files of the margin that this workflow has made, if any."""
    provenance = read_provenance(margin.output)
    return {} if provenance is None else provenance["files"]


class Receipt(NamedTuple):
    """Size and digest of a reduce job's footers; rows, bytes and digest of its files by path."""

    footers: int
    footers_digest: str
    files: dict[str, list[Any]]


def read_receipt(path: Path) -> Receipt | None:
    """Return a receipt, or None if it is missing, damaged, or of another job or plan."""
    record = read_json(path)
    try:
        receipt = Receipt(record["footers"], record["footers_digest"], record["files"])
        return receipt if record["job"] == job_of(path) else None
    except (TypeError, KeyError):
        return None


def missing_receipts(margin: Margin) -> list[Path]:
    """Delete invalid receipts; return those that reduce jobs have to write, none if complete.

    A receipt whose files are gone or have another size is invalid. It is deleted, and the done file
    in any case, because Snakemake would take their jobs for done. Nothing is deleted while a run
    uses this plan. A dry run may delete them too: no valid file is lost.
    """
    missing = []
    if not is_complete(margin):
        existing = existing_files(margin)
        missing = [
            margin.files.receipt(job)
            for job in margin.plan.reduce_names
            if not _is_valid(margin, job, existing)
        ]
    if not is_locked(margin.files.plan_lock):
        with suppress(OSError):  # another user's
            for path in (margin.done_file, *missing):
                path.unlink(missing_ok=True)
    return missing


def _is_valid(margin: Margin, job: str, existing: Mapping[str, list[Any]]) -> bool:
    """Return whether all files in the receipt of a reduce job exist."""
    receipt = read_receipt(margin.files.receipt(job))
    return (
        receipt is not None
        and has_size(margin.files.footers(job), receipt.footers)
        and all(
            has_size(margin.files.staging_dir / path, size)
            or is_in_output(margin, path, [size, digest], existing)
            for path, (_, size, digest) in receipt.files.items()
        )
    )


def is_in_output(
    margin: Margin, path: str, listed: list[Any], existing: Mapping[str, list[Any]]
) -> bool:
    """Return whether the output, whose ``existing_files`` are given, has a file of a receipt."""
    return existing.get(path) == listed and margin.output.has(path, listed)


def done_jobs(
    margin: Margin, made_with_it: Iterable[Margin] = ()
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each map job, and each reduce job, is done.

    A map job without a shard is done if no reduce job needs it, of this margin or of others that
    are made with its shards: shards are deleted at the end. So is one of a margin that is made with
    the shards of another one.
    """
    plan, files = margin.plan, margin.files
    is_mapped = np.ones(len(plan.map_names), dtype=bool)
    if margin.shards_of is None:
        for other in (margin, *made_with_it):
            is_mapped[missing_shards(other, files)] = False
    return is_mapped, _is_reduced(margin)


def _is_reduced(margin: Margin) -> NDArray[np.bool_]:
    return np.array([margin.files.receipt(name).exists() for name in margin.plan.reduce_names])


def missing_shards(margin: Margin, files: PlanFiles) -> Ints:
    """Return the map jobs whose shards are not there, but are needed by reduce jobs of a margin."""
    plan = margin.plan
    is_needed = np.repeat(~_is_reduced(margin), np.diff(plan.need_bounds))
    needed = np.unique(plan.needs[is_needed])
    exist = [files.shard(plan.map_names[job]).exists() for job in needed.tolist()]
    return needed[~np.array(exist, dtype=bool)]


def check_output(margin: Margin) -> None:
    """Check that what is at a margin's output, if anything, may be replaced.

    It must be a margin. Without ``overwrite``, it must be of this catalog, have these parameters
    and hold only the margin's own files. In a store, no other run may be making it.
    """
    output, place = margin.output, margin.files.location
    output.check_free()
    if not output.paths():
        return
    provenance = read_provenance(output)
    if margin.settings.overwrite:
        if provenance is None and not output.is_margin():
            raise MarginCacheError(
                f"output_path: {place} exists and its metadata do not describe a margin, so "
                "overwrite does not replace it. Choose another output_path or "
                "output_artifact_name."
            )
        return
    if difference := _difference(provenance, margin):
        raise MarginCacheError(
            f"output_path: {place} exists and was {difference}. Choose another output_path or "
            "output_artifact_name, or set overwrite: true."
        )
    foreign = sorted({*output.paths()} - {PROVENANCE, *existing_files(margin)})
    if foreign:
        raise MarginCacheError(
            f"output_path: {place}/{foreign[0]} does not belong to the margin that would be "
            f"replaced (such files: {len(foreign)}). Move it, or set overwrite: true to delete it."
        )


def _difference(provenance: Mapping[str, Any] | None, margin: Margin) -> str:
    """Describe how what exists was made, if this margin must not replace it."""
    if provenance is None:
        return "not made by this workflow"
    if margin.plan.content_id != provenance["content_id"]:
        keys = [
            f"{key} {provenance.get(key)}, not {value}"
            for key, value in settings_as_json(margin.settings).items()
            if key not in _WITHOUT_INFLUENCE and provenance.get(key) != value
        ]
        if keys:
            return f"made with other parameters ({'; '.join(keys)})"
        # An unfinished margin of other partitions is of no use to anybody.
        if UNFINISHED not in provenance:
            return (
                "made when the catalog had other partitions, columns, compression, encodings or "
                "row groups"
            )
    here = margin.plan.parameters.catalog.absolute_location
    there = provenance.get(CATALOG_PATH, here)
    # Of a catalog that was moved, the old place is empty; one that was copied has the same content.
    is_other_place = there != here and (is_url(there) or Path(there).exists())
    if is_other_place and not _is_of_same_catalog(provenance, margin):
        return f"made from {there}, not from {here}"
    return ""


def restore_backup(files: MarginFiles) -> None:
    """Move an older margin back that a killed run had moved away to replace it."""
    backups = [path for path in files.left_behind() if path.name.endswith(".backup")]
    if not files.output_dir.exists() and len(backups) == 1:
        backups[0].rename(files.output_dir)


def clean_up(margin: Margin, own_lock: Path | None = None) -> None:
    """Delete what interrupted runs have left of a complete margin.

    With ``delete_intermediate_parquet_files``, delete shards and earlier plans as well. The files
    of an active run stay, and so do the directories beside the margin: the run may be replacing it.
    """
    files = margin.files
    if not any(is_locked(lock) for lock in files.staging_locks() if lock != own_lock):
        for directory in files.left_behind():
            delete_directory(directory)
    if not margin.settings.delete_intermediate_parquet_files:
        return
    for plan in margin.intermediate_dir.glob("*/plan.npz"):
        other = PlanFiles(plan.parent)
        record = read_json(other.margin_file) or {}
        output_path = record.get("settings", {}).get("output_path")  # None if it is damaged
        if (
            other.plan_dir != files.plan_dir
            and not is_locked(other.plan_lock)
            and output_path in (None, margin.settings.output_path)
        ):
            shutil.rmtree(other.plan_dir, ignore_errors=True)
    shutil.rmtree(files.shards_dir, ignore_errors=True)
    shutil.rmtree(files.downloads_dir, ignore_errors=True)
    for directory in (margin.intermediate_dir, files.plan_dir, files.receipts_dir):
        for path in directory.glob(".*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)
