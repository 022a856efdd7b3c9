"""What killed jobs had fetched is deleted, and nothing of a job at work."""

import os
from pathlib import Path

from margin_cache.stages.fetched import delete_fetched, lock_of
from margin_cache.stages.layout import PlanFiles
from margin_cache.storage.files import hold_lock


def test_only_what_no_job_has_locked_is_deleted(tmp_path: Path) -> None:
    files = PlanFiles(tmp_path)
    delete_fetched(files)
    for name in ("00000-dead", "00000-alive", "00001-early"):
        (files.fetched_dir / name / "Norder=0").mkdir(parents=True)
    (lock_of(files.fetched_dir / "00000-dead")).touch()
    descriptor = hold_lock(lock_of(files.fetched_dir / "00000-alive"), "")
    assert descriptor is not None
    delete_fetched(files)
    assert [path.name for path in files.fetched_dir.iterdir()] == ["00000-alive"]
    os.close(descriptor)
    delete_fetched(files)
    assert list(files.fetched_dir.iterdir()) == []
