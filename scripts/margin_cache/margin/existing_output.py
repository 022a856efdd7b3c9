"""The margin in an output directory: whether it is complete, and whether it may be replaced.

Also deletes what interrupted runs have left of it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from margin_cache.catalog.formats import format_of, is_margin
from margin_cache.catalog.partitions import content_digest
from margin_cache.catalog.spec import HatsKey, HipscatKey
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin, settings_as_json
from margin_cache.margin.output_lock import is_own_lock, is_resumed, names_while_made
from margin_cache.margin.paths import (
    PROVENANCE,
    MarginFiles,
    PlanFiles,
    is_being_made,
    plan_dirs,
    staging_lock,
)
from margin_cache.planning.model import Plan, is_current
from margin_cache.storage.files import (
    delete_directory,
    file_digest,
    has_size,
    is_locked,
    is_temporary,
    read_json,
    write_json,
)
from margin_cache.storage.local_listing import is_object_version
from margin_cache.storage.urls import is_url

TOOL_NAME = "snakemake-margin-cache"

RUN_ID = "run_id"
"""Key of a provenance: the run that made the margin, if it was one with ``resume: false``."""

CATALOG_PATH = "input_catalog_absolute_path"
"""Key of a provenance: location of the primary. The path in the configuration may be relative."""

CATALOG_CONTENT = "input_content"
"""Key of a provenance: digest of the primary's files that a copy of them has too, and the time (ns)
of the last change of any of them."""

_REQUIRED = {"content_id", "input_fingerprint", "library", "files"}
"""Keys of a provenance that older versions did not have."""

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
    """Return whether the margin in the output directory is whole, and of the catalog as it is now.

    With ``resume: false``, only if this run has made it. Files are checked by size or ETag, without
    reading them.
    """
    provenance = read_provenance(margin.files.output_dir / PROVENANCE)
    run_id = margin.plan.parameters.run_id
    return (
        provenance is not None
        and run_id in ("", provenance.get(RUN_ID))
        and margin.plan.has_content(provenance["content_id"])
        and _is_of_same_catalog(provenance, margin)
        and is_current(provenance["library"], margin.plan.library)
        and all(
            _is_unchanged(margin.files, path, size, digest, provenance)
            for path, (size, digest) in provenance["files"].items()
        )
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
    return bool(digest) and are_all_newer and digest == content_digest(info, plan.partitions)


def _is_unchanged(
    files: MarginFiles, path: str, size: int, digest: str, provenance: Mapping[str, Any]
) -> bool:
    file = files.output_dir / path
    if not files.url:
        return has_size(file, size)
    etag = provenance.get("objects", {}).get(path)
    if etag is None:
        return has_size(file, size) and file_digest(file) == digest
    return is_object_version(file, size, etag)


def has_leftovers(margin: Margin) -> bool:
    """Return whether a complete margin needs its finishing job once more, and no other job.

    That job registers the margin in its collection, records where the catalog is now, and deletes
    what a killed run has left. False while another run is active here, because that run does it.
    """
    files, info = margin.files, margin.plan.parameters.catalog
    if is_locked(files.plan_lock) or is_being_made(files.output_dir):
        return False
    return (
        bool(files.left_behind())
        or (files.receipts_dir.exists() and not margin.done_file.exists())
        or (margin.settings.delete_intermediate_parquet_files and files.shards_dir.exists())
        or (bool(files.url) and is_own_lock(margin))
        or not format_of(info).is_registered(info, files.output_dir)
        or _is_of_other_state(read_json(files.output_dir / PROVENANCE), margin)
    )


def record_catalog(margin: Margin) -> None:
    """Record in a complete margin where its catalog is now, and the state of that.

    From then on, a change of the catalog is noticed by the time of the changed file.
    """
    path = margin.files.output_dir / PROVENANCE
    record = read_json(path)
    if _is_of_other_state(record, margin):
        record["tool_args"]["runtime_args"] |= catalog_record(margin.plan)
        write_json(path, record)


def _is_of_other_state(record: Mapping[str, Any], margin: Margin) -> bool:
    arguments = record["tool_args"]["runtime_args"]
    return bool(arguments["input_fingerprint"] != margin.plan.input_fingerprint)


def catalog_record(plan: Plan) -> dict[str, Any]:
    """Return what a provenance records of the place and the state of a catalog."""
    info = plan.parameters.catalog
    return {
        CATALOG_PATH: info.absolute_location,
        "input_fingerprint": plan.input_fingerprint,
        CATALOG_CONTENT: [content_digest(info, plan.partitions), int(plan.partitions.times.max())],
    }


def rows_of(margin: Margin) -> int:
    """Return the number of rows of a complete margin, from its description."""
    record = read_json(margin.files.output_dir / PROVENANCE)
    return int(record.get(HipscatKey.ROWS, record.get(HatsKey.ROWS)))


def read_provenance(path: Path) -> Mapping[str, Any] | None:
    """Return the arguments that a margin of this workflow was made with, else None."""
    try:
        tool = read_json(path)["tool_args"]
        arguments = tool["runtime_args"]
        if tool["tool_name"] == TOOL_NAME and arguments.keys() >= _REQUIRED:
            return arguments
    except (TypeError, KeyError, AttributeError):
        pass
    return None


def existing_files(margin: Margin) -> dict[str, list[Any]]:
    """Return size and digest of the files that the margin in the output directory was made with.

    Empty if the margin was not made by this workflow.
    """
    provenance = read_provenance(margin.files.output_dir / PROVENANCE)
    return {} if provenance is None else provenance["files"]


def check_output(margin: Margin) -> None:
    """Check that the content of a margin's output directory may be replaced.

    It must be a margin. Without ``overwrite``, it must be of this catalog and have these parameters
    and no files of others.
    """
    output_dir = margin.files.output_dir
    if not output_dir.exists() or not any(output_dir.iterdir()):
        return
    if is_resumed(margin):
        # The older margin was checked by the interrupted run, which has removed its metadata.
        _check_nothing_foreign(margin)
        return
    provenance = read_provenance(output_dir / PROVENANCE)
    if margin.settings.overwrite:
        if provenance is None and not is_margin(output_dir):
            raise MarginCacheError(
                f"output_path: {output_dir} exists and its metadata do not describe a margin, so "
                "overwrite does not replace it. Choose another output_path or "
                "output_artifact_name."
            )
        return
    if provenance is None:
        raise MarginCacheError(
            f"output_path: {output_dir} exists and was not made by this workflow, or by an older "
            "version of it. Choose another output_path or output_artifact_name, or set overwrite: "
            "true."
        )
    if not margin.plan.has_content(provenance["content_id"]):
        raise MarginCacheError(
            f"output_path: {output_dir} exists and was made "
            f"{_difference(provenance, margin.settings)}. Choose another output_artifact_name, or "
            "set overwrite: true."
        )
    _check_catalog_path(provenance, margin)
    _check_nothing_foreign(margin)


def restore_backup(files: MarginFiles) -> None:
    """Move an older margin back that a killed run had moved away to replace it."""
    backups = [path for path in files.left_behind() if path.name.endswith(".backup")]
    if not files.output_dir.exists() and len(backups) == 1:
        backups[0].rename(files.output_dir)


def _check_nothing_foreign(margin: Margin) -> None:
    """Check, without ``overwrite``, that a margin that is replaced has no files of others."""
    if margin.settings.overwrite:
        return
    directory, own = margin.files.output_dir, {PROVENANCE, *existing_files(margin)}
    present = [
        path.relative_to(directory).as_posix()
        for path in sorted(directory.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    ]
    if margin.files.url:
        own.update(names_while_made(margin))
        # Temporary files of the local listing are no objects: a killed process has left them.
        present = [path for path in present if not is_temporary(Path(path).name)]
    foreign = [path for path in present if path not in own]
    if foreign:
        raise MarginCacheError(
            f"output_path: {directory / foreign[0]} does not belong to the margin that would be "
            f"replaced (such files: {len(foreign)}). Move it, or set overwrite: true to delete it."
        )


def _check_catalog_path(provenance: Mapping[str, Any], margin: Margin) -> None:
    """Check that an existing margin is not of another catalog of the same name and partitions.

    Of a catalog that was moved, the old place is empty; one that was copied has the same content.
    """
    here = margin.plan.parameters.catalog.absolute_location
    there = provenance.get(CATALOG_PATH, here)
    if (
        there != here
        and (is_url(there) or Path(there).exists())
        and not _is_of_same_catalog(provenance, margin)
    ):
        raise MarginCacheError(
            f"output_path: {margin.files.output_dir} exists and was made from {there}, not from "
            f"{here}. Choose another output_artifact_name, or set overwrite: true."
        )


def _difference(provenance: Mapping[str, Any], settings: MarginSettings) -> str:
    """Describe how the parameters of an existing margin differ from the settings."""
    keys = [
        f"{key} {provenance.get(key)}, not {value}"
        for key, value in settings_as_json(settings).items()
        if key not in _WITHOUT_INFLUENCE and provenance.get(key) != value
    ]
    if keys:
        return f"with other parameters ({'; '.join(keys)})"
    return "when the catalog had other partitions, columns, compression, encodings or row groups"


def clean_up(margin: Margin, own_lock: Path | None = None) -> None:
    """Delete what interrupted runs have left of a complete margin.

    With ``delete_intermediate_parquet_files``, delete shards and earlier plans as well. The files
    of an active run stay, and so do the directories beside the margin: the run may be replacing it.
    """
    files = margin.files
    beside = files.left_behind()
    if not any(is_locked(lock) for lock in map(staging_lock, beside) if lock != own_lock):
        for directory in beside:
            delete_directory(directory)
    if not margin.settings.delete_intermediate_parquet_files:
        return
    for other in map(PlanFiles, plan_dirs(files.intermediate_dir)):
        if (
            other.plan_dir != files.plan_dir
            and not is_locked(other.plan_lock)
            and _has_same_output(other, margin)
        ):
            shutil.rmtree(other.plan_dir, ignore_errors=True)
    shutil.rmtree(files.shards_dir, ignore_errors=True)
    shutil.rmtree(files.downloads_dir, ignore_errors=True)
    for directory in (files.intermediate_dir, files.plan_dir, files.receipts_dir):
        for path in directory.glob(".*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)


def _has_same_output(other: PlanFiles, margin: Margin) -> bool:
    """Return whether another plan is for the same output directory, or damaged."""
    record = read_json(other.margin_file)
    try:
        parent = Path(record.get("listing_dir") or record["settings"]["output_path"])
        output_dir = parent / record["name"]
    except (TypeError, KeyError, AttributeError):
        return True
    return output_dir.resolve() == margin.files.output_dir.resolve()
