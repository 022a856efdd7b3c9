"""What killed jobs had fetched is deleted, and nothing of a job at work."""

import os
from pathlib import Path

from margin_cache.margin.downloads import delete_downloads, lock_of
from margin_cache.margin.paths import PlanFiles
from margin_cache.storage.files import acquire_lock


def test_only_what_no_job_has_locked_is_deleted(tmp_path: Path) -> None:
    files = PlanFiles(tmp_path)
    delete_downloads(files)
    for name in ("00000-dead", "00000-alive", "00001-early"):
        (files.downloads_dir / name / "Norder=0").mkdir(parents=True)
    (lock_of(files.downloads_dir / "00000-dead")).touch()
    descriptor = acquire_lock(lock_of(files.downloads_dir / "00000-alive"), "")
    assert descriptor is not None
    delete_downloads(files)
    assert [path.name for path in files.downloads_dir.iterdir()] == ["00000-alive"]
    os.close(descriptor)
    delete_downloads(files)
    assert list(files.downloads_dir.iterdir()) == []
