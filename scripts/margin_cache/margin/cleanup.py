"""What interrupted runs have left behind of a margin, and intermediate files that have served."""

import os
import shutil
from pathlib import Path

from margin_cache.margin.model import Margin
from margin_cache.margin.paths import MarginFiles, PlanFiles, plan_dirs, staging_lock
from margin_cache.storage.directories import delete_directory
from margin_cache.storage.files import acquire_lock, is_locked, is_temporary, read_json


def clean_up(margin: Margin, own: Path | None = None) -> None:
    """Delete what interrupted runs have left behind, and, if wanted, shards and earlier plans.

    What a run at work has locked stays, and then all that lies beside the margin does: an older
    margin may have been moved there while a new one takes its place.

    Args:
        margin: the margin, complete.
        own: the lock of this run itself, if it has one.
    """
    paths = margin.files
    _delete_left_behind(paths, own)
    if not margin.settings.delete_intermediate_parquet_files:
        return
    for other in map(PlanFiles, plan_dirs(paths.intermediate_dir)):
        if (
            other.plan_dir != paths.plan_dir
            and not is_locked(other.plan_lock)
            and _is_for(margin, other)
        ):
            shutil.rmtree(other.plan_dir, ignore_errors=True)
    shutil.rmtree(paths.shards_dir, ignore_errors=True)
    shutil.rmtree(paths.downloads_dir, ignore_errors=True)
    for directory in (paths.intermediate_dir, paths.plan_dir, paths.receipts_dir):
        for path in directory.glob(".*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)


def _is_for(margin: Margin, other: PlanFiles) -> bool:
    """Tell whether another plan is for the same place; true if it does not say so."""
    record = read_json(other.margin_file)
    try:
        place = Path(record.get("listing_dir") or record["settings"]["output_path"], record["name"])
    except (TypeError, KeyError, AttributeError):
        return True
    return place.resolve() == margin.files.output_dir.resolve()


def _delete_left_behind(paths: MarginFiles, own: Path | None) -> None:
    """Delete what runs make beside a margin, unless one at work has locked some of it."""
    directories = paths.left_behind()
    held: list[int] = []
    try:
        for lock in map(staging_lock, directories):
            if lock.exists() and lock != own:
                # Held while the directory is deleted, so that no run begins in it meanwhile.
                try:
                    descriptor = acquire_lock(lock, "")
                except PermissionError:  # another user's
                    return
                if descriptor is None:
                    return
                held.append(descriptor)
        for directory in directories:
            delete_directory(directory)
    finally:
        for descriptor in held:
            os.close(descriptor)
