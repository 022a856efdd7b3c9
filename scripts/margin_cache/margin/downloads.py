"""What jobs at work have fetched of a remote catalog, and what killed ones have left of it."""

import shutil
from pathlib import Path

from margin_cache.margin.paths import PlanFiles
from margin_cache.storage.files import is_locked


def delete_downloads(files: PlanFiles) -> None:
    """Delete what killed jobs have left behind of what they had fetched."""
    if not files.downloads_dir.is_dir():
        return
    for directory in files.downloads_dir.iterdir():
        if not is_locked(lock_of(directory)):
            shutil.rmtree(directory, ignore_errors=True)


def lock_of(directory: Path) -> Path:
    """Return the file that a job has locked as long as it has a directory of what it fetched."""
    return directory / ".lock"
