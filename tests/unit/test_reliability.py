"""Each promise of docs/reliability.md names tests that there are."""

import re

from support.paths import ROOT

TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
PROMISES, LIMITS = TEXT.split("## What is not promised")


def test_each_promise_names_a_test() -> None:
    promises = re.split(r"^- ", PROMISES, flags=re.MULTILINE)[1:]
    assert len(promises) > 20
    assert not [promise for promise in promises if ".py::test_" not in promise]


def test_the_tests_that_are_named_are_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PROMISES)
    assert len(named) > 30
    missing = [
        f"{path}::{test}"
        for path, test in named
        if f"def {test}(" not in (ROOT / "tests" / path).read_text(encoding="utf-8")
    ]
    assert not missing


def test_the_table_of_faults_has_none_that_went_wrong() -> None:
    table = LIMITS.partition("\n| kind |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    kinds = {row[0]: row[-1] for row in rows}
    assert "all" in kinds and len(kinds) > 8
    assert set(kinds.values()) == {"0"}
