"""Files and directories that a user may not read, enter or write to."""

import itertools
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.faults import Tally, outcome_after, outcome_of_end, sample
from support.faulty_margins import Site, as_nobody, made, make_margin, run_in_child, small_site
from support.margins import NAME
from support.paths import ROOT
from support.skips import lacking
from support.unprivileged import NOBODY, public_directory

MODES = (0o000, 0o111, 0o444, 0o555)


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    for path in (ROOT, *ROOT.parents):
        if not path.stat().st_mode & stat.S_IXOTH:
            lacking(f"other users cannot enter {path}, and so cannot import the library")
    with public_directory() as directory:
        yield directory


def give_to_nobody(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, NOBODY, NOBODY)


def test_missing_permissions_make_no_wrong_margin(
    public: Path, tally: Callable[[str], Tally]
) -> None:
    counted = tally("permissions")
    site = small_site(public / "site", overwrite=True)
    older = Site(site.directory, site.config | {"margin_threshold": 300.0})
    code, said = run_in_child(lambda: make_margin(older))
    assert code == 0, said
    done = site.copy(public / "done")
    code, said = run_in_child(lambda: make_margin(done))
    assert code == 0, said
    right = done.results()
    assert right != site.results()
    places = ["sky", "results", "intermediate", f"results/{NAME}", f"intermediate/{NAME}"]
    for path in sorted((site.directory / "sky").rglob("*")):
        places.append(str(path.relative_to(site.directory)))
    cases = [(place, mode) for place in places for mode in MODES]
    for place, mode in sample(cases, 6, "permissions", 60):
        copy = site.copy(public / "case")
        give_to_nobody(copy.directory)
        path = copy.directory / place
        before = path.stat().st_mode
        path.chmod(mode)
        outcome = outcome_of_end(*as_nobody(lambda copy=copy: make_margin(copy)))
        path.chmod(before)
        if outcome:
            outcome = outcome_after(outcome, partial(same_margin, copy, site))
        counted.add(f"{place} {mode:o}", outcome_after(outcome, partial(made, copy, right)))
        shutil.rmtree(copy.directory)


STAGES = ("map", "reduce", "finish")
WRITTEN = ("results", "intermediate")


def test_permissions_lost_during_a_run_end_it(public: Path, tally: Callable[[str], Tally]) -> None:
    """As on a file system that becomes read-only."""
    counted = tally("permissions")
    site = small_site(public / "during")
    done = site.copy(public / "undisturbed")
    code, said = run_in_child(lambda: make_margin(done))
    assert code == 0, said
    for stage, place in sample(list(itertools.product(STAGES, WRITTEN)), 2, "during"):
        copy = site.copy(public / "case")
        give_to_nobody(copy.directory)
        chosen = partial(forbid, copy.directory / place, stage)
        outcome = outcome_of_end(*as_nobody(lambda copy=copy, c=chosen: make_margin(copy, c)))
        for path in (copy.directory / place).rglob("*"):
            path.chmod(0o755)
        (copy.directory / place).chmod(0o755)
        outcome = outcome_after(outcome, partial(made, copy, done.results()))
        counted.add(f"{place} before {stage}", outcome)
        shutil.rmtree(copy.directory)


def forbid(place: Path, stage: str, now: str) -> None:
    """At a stage, take away the right to write to all directories at a place."""
    if now == stage:
        for path in (*place.rglob("*"), place):
            if path.is_dir():
                path.chmod(0o555)


def same_margin(copy: Site, site: Site) -> None:
    """The older margin stays, whatever has gone wrong with the new one."""
    assert copy.results() == site.results()
