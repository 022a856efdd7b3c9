"""A job looks whether its machine sees the files of its run, and is patient."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from margin_cache.errors import RetryableError
from margin_cache.margin import paths
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import check_visible, not_visible, wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PATIENCE", 0.2)


def test_a_file_may_come_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not wait_until((tmp_path / "never").exists, tmp_path / "nowhere")
    monkeypatch.setattr(paths, "PATIENCE", 60)
    late = tmp_path / "late"
    timer = threading.Timer(0.2, late.touch)
    timer.start()
    assert wait_until(late.exists, tmp_path)
    timer.join()


def test_the_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    message = str(not_visible("tmp_dir", Path("here")))
    assert message.startswith(f"tmp_dir: {Path.cwd()}/here is not visible on n7, ")


def test_a_job_needs_the_directory_of_the_margin(prepare: Callable[..., Margin]) -> None:
    staging_dir = prepare().files.staging_dir
    with pytest.raises(RetryableError, match=r"^output_path: .* is not visible on "):
        check_visible(staging_dir)
    staging_dir.mkdir(parents=True)
    check_visible(staging_dir)


def test_a_map_job_needs_its_partitions(catalog: Path, prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    margin.files.staging_dir.mkdir(parents=True)
    partition = catalog / margin.plan.files_of(0)[0]
    check_visible(margin.files.staging_dir, str(partition))
    partition.unlink()
    with pytest.raises(RetryableError, match=r"^input_catalog_path: .*Npix=.* is not visible on "):
        check_visible(margin.files.staging_dir, str(partition))
