"""Everything that a run locks, checks and writes before its first job."""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing_output import check_output, restore_backup
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.output import describe_run
from margin_cache.storage.files import acquire_lock, is_locked, read_json

_lock_descriptors: list[int] = []
"""File descriptors of the locks of this process, which last until it ends."""


def start_margin(margin: Margin) -> None:
    """Lock a margin for this run, and write what its jobs need."""
    try:
        lock_margin(margin)
        restore_backup(margin.files)
        margin.output.refresh()
        check_output(margin)
        margin.output.acquire(_this_run(margin))
        save_margin(margin)
        shutil.rmtree(margin.files.downloads_dir, ignore_errors=True)
    except OSError as error:
        raise MarginCacheError(
            f"{error.filename or margin.files.plan_dir}: cannot be written "
            f"({error.strerror or error}). "
            "Choose another tmp_dir or output_path, or free disk space."
        ) from None


def lock_margin(margin: Margin) -> None:
    """Lock a margin's plan directory and staging directory until this process ends."""
    files = margin.files
    for path in (files.plan_lock, files.staging_lock):
        for other in files.staging_locks():
            if other != files.staging_lock and is_locked(other):
                raise _in_use(other)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = acquire_lock(path, json.dumps(_this_run(margin)))
        if descriptor is None:
            raise _in_use(path)
        _lock_descriptors.append(descriptor)


def _this_run(margin: Margin) -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "directory": str(Path.cwd()),
        "output": margin.files.url or str(margin.files.output_dir.resolve()),
    }


def _in_use(lock: Path) -> MarginCacheError:
    run = read_json(lock)
    made = run.get("output") if isinstance(run, dict) else None
    return MarginCacheError(
        f"{made or lock.parent} is being made by another run ({describe_run(run)}). Wait until "
        "that run has ended, or choose another output_artifact_name or tmp_dir."
    )
