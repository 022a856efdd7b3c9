"""What a run locks, checks and writes before the first of its jobs."""

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from margin_cache.errors import MarginCacheError
from margin_cache.margin.downloads import delete_downloads
from margin_cache.margin.existing_output import check_output, is_complete, restore_backup
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.output_lock import new_output_lock, run_in_words
from margin_cache.storage.files import acquire_lock, is_locked, read_json

if TYPE_CHECKING:
    from margin_cache.margin.remote_output import RemoteOutput

_held: list[int] = []
"""Descriptors of the locks of this process, which last as long as it does."""


def start_margin(margin: Margin) -> None:
    """Lock a margin for this run, and write what its jobs need.

    Raises:
        MarginCacheError: another run is at work at it, what is in its output directory must not be
            replaced, or a directory cannot be written to.
    """
    try:
        lock_margin(margin)
        if margin.files.url:
            with _output_of(margin) as output:
                # As it is just before the claim: with that, everything there looks like this run's.
                output.refresh()
                check_output(margin)
                output.claim(new_output_lock(margin, _this_run(margin)))
        else:
            restore_backup(margin.files)
            check_output(margin)
        save_margin(margin)
        delete_downloads(margin.files)
        if margin.files.url and not is_complete(margin):
            with _output_of(margin) as output:
                output.withdraw()
    except OSError as error:
        raise MarginCacheError(
            f"{error.filename or margin.files.plan_dir}: cannot be written to ({error.strerror}); "
            "choose another tmp_dir or output_path, or make room"
        ) from None


def _output_of(margin: Margin) -> "RemoteOutput":
    """Return the place in a store that a margin is written to."""
    # Slow to import, and of no use for margins on disk.
    from margin_cache.margin.remote_output import open_output

    return open_output(margin.files, margin.settings.output_storage_options)


def lock_margin(margin: Margin) -> None:
    """Lock a margin for this process: its plan's directory, and its staging directory.

    Raises:
        MarginCacheError: another run has locked one of them, or another staging directory for the
            same output directory.
    """
    files = margin.files
    for path in (files.plan_lock, files.staging_lock):
        for other in files.other_staging_locks():
            if is_locked(other):
                raise _in_use(margin, other)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = acquire_lock(path, json.dumps(_this_run(margin)))
        if descriptor is None:
            raise _in_use(margin, path)
        _held.append(descriptor)


def _this_run(margin: Margin) -> dict[str, str | int]:
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "directory": str(Path.cwd()),
        "output_dir": str(margin.files.output_dir.absolute()),
        "url": margin.files.url,
    }


def _in_use(margin: Margin, lock: Path) -> MarginCacheError:
    run, files = read_json(lock), margin.files
    which = run_in_words(run)
    made = Path(run["output_dir"]) if isinstance(run, dict) and "output_dir" in run else None
    if lock == files.plan_lock and made and made.resolve() != files.output_dir.resolve():
        return MarginCacheError(
            f"tmp_dir: {files.plan_dir} is in use by another run ({which}), which makes "
            f"{run.get('url') or made}; wait until it has ended, or choose another tmp_dir"
        )
    return MarginCacheError(
        f"output_path: {files.location} is being made by another run ({which}); wait "
        "until it has ended, or choose another output_artifact_name"
    )
