"""Files and directories that a user may not read, enter or write to."""

import itertools
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from support.faults import Tally, outcome_after, outcome_of_end, sample
from support.faulty_margins import (
    Site,
    made,
    make_margin,
    run_in_child,
    small_site,
    without_privileges,
)
from support.margins import NAME

MODES = (0o000, 0o111, 0o444, 0o555)


def test_missing_permissions_make_no_wrong_margin(
    tmp_path: Path, tally: Callable[[str], Tally]
) -> None:
    counted = tally("permissions")
    site = small_site(tmp_path / "site", overwrite=True)
    older = Site(site.directory, site.config | {"margin_threshold": 300.0})
    code, said = run_in_child(lambda: make_margin(older))
    assert code == 0, said
    done = site.copy(tmp_path / "done")
    code, said = run_in_child(lambda: make_margin(done))
    assert code == 0, said
    right = done.results()
    assert right != site.results()
    places = ["sky", "results", "intermediate", f"results/{NAME}", f"intermediate/{NAME}"]
    for path in sorted((site.directory / "sky").rglob("*")):
        places.append(str(path.relative_to(site.directory)))
    cases = [(place, mode) for place in places for mode in MODES]
    for place, mode in sample(cases, 6, "permissions", 60):
        copy = site.copy(tmp_path / "case")
        path = copy.directory / place
        before = path.stat().st_mode
        path.chmod(mode)
        outcome = outcome_of_end(*without_privileges(lambda copy=copy: make_margin(copy)))
        path.chmod(before)
        if outcome:
            outcome = outcome_after(outcome, partial(same_margin, copy, site))
        counted.add(f"{place} {mode:o}", outcome_after(outcome, partial(made, copy, right)))
        shutil.rmtree(copy.directory)


STAGES = ("map", "reduce", "finish")
WRITTEN = ("results", "intermediate")


def test_permissions_lost_during_a_run_end_it(
    tmp_path: Path, tally: Callable[[str], Tally]
) -> None:
    """As on a file system that becomes read-only."""
    counted = tally("permissions")
    site = small_site(tmp_path / "during")
    done = site.copy(tmp_path / "undisturbed")
    code, said = run_in_child(lambda: make_margin(done))
    assert code == 0, said
    for stage, place in sample(list(itertools.product(STAGES, WRITTEN)), 2, "during"):
        copy = site.copy(tmp_path / "case")
        chosen = partial(forbid, copy.directory / place, stage)
        outcome = outcome_of_end(
            *without_privileges(lambda copy=copy, c=chosen: make_margin(copy, c))
        )
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
