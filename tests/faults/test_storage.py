"""Disks that are full, without inodes or read-only, and partitions that change during a run."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.faults import (
    CLEAR_ERROR,
    Tally,
    outcome_after,
    outcome_of_end,
    sample,
)
from support.faulty_margins import Site, made, make_margin, run_in_child, small_site
from support.full_disks import files_end_at, mounted

STAGES = ("begin", "map", "reduce", "finish")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dict[str, str]]:
    """A site, and the digests of its margin."""
    root = tmp_path_factory.mktemp("storage")
    site = small_site(root / "site")
    done = site.copy(root / "done")
    code, said = run_in_child(lambda: make_margin(done))
    assert code == 0, said
    return site, done.results()


def at_stage(site: Site, stage: str, fault: Callable[[], object]) -> tuple[int, str]:
    """Make a margin in a process of its own, and let a fault happen before a stage."""

    def pause(now: str) -> None:
        if now == stage:
            fault()

    return run_in_child(lambda: make_margin(site, pause))


def test_files_that_end_early_make_no_wrong_margin(
    whole: tuple[Site, dict[str, str]], tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("storage, no room for a file")
    sizes = [int(10 * 1.25**step) for step in range(40)]
    for size in sample(sizes, 4, "sizes"):
        site = whole[0].copy(tmp_path / "site")

        def end_early(site: Site = site, size: int = size) -> None:
            with files_end_at(size):
                make_margin(site)

        outcome = outcome_of_end(*run_in_child(end_early))
        counted.add(f"{size} bytes", outcome_after(outcome, partial(made, site, whole[1])))
        shutil.rmtree(site.directory)


@pytest.mark.parametrize(
    ("kind", "few", "many"),
    [("size", "{}k", "size=64m"), ("nr_inodes", "{}", "nr_inodes=10000")],
    ids=["room", "inodes"],
)
def test_a_disk_that_is_full_makes_no_wrong_margin(
    whole: tuple[Site, dict[str, str]],
    tally: Callable[[str], Tally],
    tmp_path: Path,
    kind: str,
    few: str,
    many: str,
) -> None:
    counted = tally("storage, full disk")
    files = [path for path in whole[0].directory.rglob("*") if path.is_file()]
    # tmpfs has pages of 4 kB.
    pages = sum(-(-path.stat().st_size // 4096) for path in files)
    entries = len(list(whole[0].directory.rglob("*"))) + 4
    least = 4 * pages if kind == "size" else entries
    step = 12 if kind == "size" else 3
    for more in sample([step * number for number in range(30)], 2, kind):
        with mounted(tmp_path / "disk", f"{kind}={few.format(least + more)}") as remount:
            site = whole[0].copy(tmp_path / "disk" / "site")
            outcome = outcome_of_end(*run_in_child(lambda site=site: make_margin(site)))
            remount(many)
            counted.add(f"{kind} {more}", outcome_after(outcome, partial(made, site, whole[1])))
        (tmp_path / "disk").rmdir()


def test_a_disk_that_is_read_only_makes_no_margin(
    whole: tuple[Site, dict[str, str]], tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("storage, read-only")
    with mounted(tmp_path / "disk", "size=64m") as remount:
        site = whole[0].copy(tmp_path / "disk" / "site")
        remount("ro")
        outcome = outcome_of_end(*run_in_child(lambda: make_margin(site)))
        remount("rw")
        counted.add("from the beginning", outcome_after(outcome, partial(made, site, whole[1])))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewrite_older(path: Path) -> None:
    """As a restored backup is: same size, another and older time of change."""
    content = bytearray(path.read_bytes())
    path.unlink()
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))


def replace_by_neighbour(path: Path) -> None:
    """By a file of the same columns, whose rows lie in another pixel."""
    other = next(file for file in sorted(path.parent.glob("Npix=*")) if file != path)
    shutil.copyfile(other, path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "delete": Path.unlink,
    "truncate": truncate,
    "older date": rewrite_older,
    "another pixel's": replace_by_neighbour,
    "empty file": lambda path: path.write_bytes(b""),
    "directory": lambda path: (path.unlink(), path.mkdir()),
    "no permission": lambda path: (path.unlink(), path.symlink_to("/proc/1/mem")),
}


def test_a_partition_that_changes_during_a_run_makes_no_wrong_margin(
    whole: tuple[Site, dict[str, str]], tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    """The margin is that of before, or there is none; and the next run knows of the change."""
    counted = tally("storage, a partition changes during the run")
    cases = [(how, stage) for how in CHANGES for stage in STAGES[1:]]
    for how, stage in sample(cases, 4, "changes"):
        site = whole[0].copy(tmp_path / "site")
        partition = sorted((site.directory / "sky" / "Norder=1").rglob("Npix=*"))[2]
        change = partial(CHANGES[how], partition)
        outcome = outcome_of_end(*at_stage(site, stage, change))
        if not outcome:
            outcome = outcome_after("", lambda site=site: same(site, whole[1]))
        counted.add(f"{how} before {stage}", outcome_after(outcome, partial(next_run, site)))
        shutil.rmtree(site.directory)


def same(site: Site, right: dict[str, str]) -> None:
    assert site.results() == right


def next_run(site: Site) -> None:
    """A run after the change does what one does that has never known the catalog otherwise."""
    new = Site(site.directory.with_name("new"), site.config)
    shutil.copytree(site.directory / "sky", new.directory / "sky", symlinks=True)
    shutil.copystat(site.directory / "sky", new.directory / "sky")
    expected, said = run_in_child(lambda: make_margin(new))
    found, again = run_in_child(lambda: make_margin(site))
    try:
        assert outcome_of_end(expected, said) in ("", CLEAR_ERROR), said
        assert outcome_of_end(found, again) in ("", CLEAR_ERROR), again
        assert found == expected, (said, again)
        if not expected:
            assert site.results() == new.results()
    finally:
        shutil.rmtree(new.directory)
