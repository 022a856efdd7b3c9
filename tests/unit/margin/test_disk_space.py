"""The room on disks is compared with what margins need, each file system once."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin import forecast as rooms
from margin_cache.margin.forecast import DiskSpace, check_disk_space, disk_space, forecast_margin
from support.stages import run_map_jobs, run_reduce_jobs


class Usage(NamedTuple):
    free: int


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free bytes of file systems by the names of their directories; others are one with 10^9."""
    free: dict[str, int] = {}
    original = Path.stat

    def disk(path: Path) -> str:
        return next((part for part in Path(path).parts if part in free), "")

    def usage(path: Path) -> Usage:
        return Usage(free.get(disk(path), 10**9))

    def stat(path: Path, **options: bool):
        found = original(path, **options)
        values = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**{**values, "st_dev": disk(path)})

    monkeypatch.setattr(rooms.shutil, "disk_usage", usage)
    monkeypatch.setattr(Path, "stat", stat)
    return free


def test_what_is_made_on_one_file_system_is_added_up(prepare, disks):
    margin = prepare()
    expected = forecast_margin(margin)
    (place,) = disk_space([(margin, expected), (margin, expected)])
    assert place.keys == ["output_path", "tmp_dir"]
    assert place.needed == 2 * (expected.output + expected.intermediate) > 0
    assert place.free == 10**9


def test_a_margin_in_a_store_is_put_together_in_tmp_dir(in_store):
    margin = in_store()
    expected = forecast_margin(margin)
    (place,) = disk_space([(margin, expected)])
    assert place.keys == ["tmp_dir"]
    assert place.needed == expected.intermediate + expected.output > expected.intermediate


def test_file_systems_are_told_apart(prepare, disks, tmp_path):
    disks.update(big=500, scratch=700)
    (tmp_path / "big").mkdir()
    (tmp_path / "scratch").mkdir()
    margin = prepare(output_path=str(tmp_path / "big"), tmp_dir=str(tmp_path / "scratch"))
    expected = forecast_margin(margin)
    output, intermediate = disk_space([(margin, expected)])
    assert (output.keys, output.free) == (["output_path"], 500)
    assert (intermediate.keys, intermediate.free) == (["tmp_dir"], 700)
    assert (output.needed, intermediate.needed) == (expected.output, expected.intermediate)


def test_what_is_done_needs_no_room(prepare):
    margin = prepare()
    before = forecast_margin(margin)
    run_map_jobs(margin)
    mapped = forecast_margin(margin)
    assert mapped.map_jobs == mapped.read == 0 < before.map_jobs
    assert 0 < mapped.intermediate < before.intermediate
    run_reduce_jobs(margin)
    reduced = forecast_margin(margin)
    assert reduced.reduce_jobs == reduced.intermediate == 0
    assert reduced.output < mapped.output == before.output
    assert reduced.rows == before.rows


@pytest.mark.parametrize(("needed", "fits"), [(1999, True), (2000, True), (2001, False)])
def test_what_cannot_fit_is_refused(needed: int, fits: bool, tmp_path: Path):
    places = [DiskSpace(["output_path", "tmp_dir"], tmp_path, needed, 1000)]
    if fits:
        check_disk_space(places)
        return
    with pytest.raises(MarginCacheError) as caught:
        check_disk_space(places)
    assert str(caught.value) == (
        f"output_path: {tmp_path} has 1 kB free, and about 2 kB are needed there. Make room, or "
        "choose another output_path or tmp_dir."
    )


def test_free_room_is_that_of_the_nearest_directory(prepare, tmp_path):
    margin = prepare(output_path=str(tmp_path / "a/b/c"))
    (place,) = disk_space([(margin, forecast_margin(margin))])
    assert place.free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
