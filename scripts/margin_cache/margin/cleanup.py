"""Deletes what interrupted runs have left of a margin, and intermediate files without use."""

import os
import shutil
from pathlib import Path

from margin_cache.margin.model import Margin
from margin_cache.margin.paths import MarginFiles, PlanFiles, plan_dirs, staging_lock
from margin_cache.storage.directories import delete_directory
from margin_cache.storage.files import acquire_lock, is_locked, is_temporary, read_json


def clean_up(margin: Margin, own_lock: Path | None = None) -> None:
    """Delete what interrupted runs have left of a complete margin.

    With ``delete_intermediate_parquet_files``, delete shards and earlier plans as well. The files
    of an active run stay, and so do the directories beside the margin: the run may be replacing it.
    """
    files = margin.files
    _delete_beside(files, own_lock)
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


def _delete_beside(files: MarginFiles, own_lock: Path | None) -> None:
    """Delete the directories that runs make beside a margin, unless a run has locked one of them.

    Each is locked meanwhile, so that no run starts in it.
    """
    directories = files.left_behind()
    descriptors: list[int] = []
    try:
        for lock in map(staging_lock, directories):
            if lock.exists() and lock != own_lock:
                try:
                    descriptor = acquire_lock(lock, "")
                except PermissionError:  # another user's
                    return
                if descriptor is None:
                    return
                descriptors.append(descriptor)
        for directory in directories:
            delete_directory(directory)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
