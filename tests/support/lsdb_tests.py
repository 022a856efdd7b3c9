"""Run LSDB's own tests with our margins in place of theirs.

    PYTHONPATH=tests:scripts .venv/bin/python tests/support/lsdb_tests.py [DIRECTORY] [-- ARGUMENTS]

Of the tests in LSDB's source distribution, all are run twice: with coarse margins, which have to
serve as theirs do, and with exact ones, for which those may fail that count the rows of a coarse
margin. LSDB has an environment of its own, made from benchmarks/peers/lsdb.txt.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from support.peer_environments import peer_python
from support.source_distributions import unpack_source
from support.workflow_runs import run_workflow

VERSION = "0.11.1"
MARGINS = 11
# The threshold of a coarse margin is that of its order, which halves with each further one.
ORDER_0 = 8245.167388361773 * 2**4  # [arcsec]

# Tests that name how many rows or which partitions a coarse margin has.
COARSE_COUNTS = frozenset(
    {
        "test_cone_search::test_cone_search_filters_correct_points_margin",
        "test_from_dataframe::test_from_dataframe_small_sky_source_with_margins",
        "test_margin_catalog::test_save_margin_catalog",
        "test_read_hats::test_read_hats_margin_catalog_subset",
        "test_to_collection::test_save_collection",
    }
)


@dataclass(frozen=True)
class Outcome:
    """What became of LSDB's tests."""

    passed: frozenset[str]
    skipped: frozenset[str]
    failed: frozenset[str]

    def __str__(self) -> str:
        return f"{len(self.passed)} passed, {len(self.skipped)} skipped, {len(self.failed)} failed"

    def unexpected(self, exact: bool) -> list[str]:
        """The tests that failed and should not have, and those that should have and passed."""
        expected = COARSE_COUNTS if exact else frozenset()
        return sorted(self.failed - expected | self.passed & expected)


def properties_of(file: Path) -> dict[str, str]:
    """The keys and values of a hats.properties."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def keys_of(margin: Path, properties: dict[str, str], data: Path, exact: bool) -> dict[str, Any]:
    """The workflow's keys for a margin in the place of one of LSDB's."""
    threshold = float(properties["hats_margin_threshold"])
    keys = {
        "input_catalog_path": str(data / properties["hats_primary_table_url"]),
        "output_path": str(margin.parent),
        "output_artifact_name": margin.name,
        "margin_threshold": threshold,
        "fine_filtering": exact,
    }
    order = math.log2(ORDER_0 / threshold)
    if not exact and math.isclose(order, round(order), abs_tol=1e-9):
        keys["margin_order"] = round(order)
    return keys


def replace_margins(data: Path, directory: Path, exact: bool) -> int:
    """Make ours of each margin in LSDB's test data; return how many they are."""
    margins = []
    for file in sorted(data.rglob("hats.properties")):
        properties = properties_of(file)
        if properties["dataproduct_type"] == "margin":
            margins.append(keys_of(file.parent, properties, data, exact))
            shutil.rmtree(file.parent)
    run_workflow(directory, config={"margins": margins}, check=True)
    return len(margins)


def name_of(case: ElementTree.Element) -> str:
    module = case.attrib["classname"].rpartition(".")[2]
    return f"{module}::{case.attrib['name']}"


def run_tests(source: Path, arguments: list[str]) -> Outcome:
    """Run the tests in a copy of LSDB's distribution."""
    report = source.parent / "report.xml"
    options = ("-q", "--tb=short", "-o", "addopts=", "-p", "no:cacheprovider", "-n", "2")
    # Some of LSDB's functions have to be compiled.
    unset = ("NUMBA_DISABLE_JIT", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    with source.parent.joinpath("pytest.log").open("wb") as log:
        subprocess.run(
            [peer_python("lsdb"), "-m", "pytest", *options, f"--junitxml={report}", *arguments],
            cwd=source,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    outcomes: dict[str, set[str]] = {"passed": set(), "skipped": set(), "failed": set()}
    for case in ElementTree.parse(report).iter("testcase"):
        found = {child.tag for child in case}
        became = "failed" if found & {"failure", "error"} else "passed"
        outcomes["skipped" if "skipped" in found else became].add(name_of(case))
    return Outcome(**{name: frozenset(tests) for name, tests in outcomes.items()})


def lsdb_outcome(directory: Path, exact: bool, arguments: list[str]) -> Outcome:
    """What becomes of LSDB's tests with our margins.

    Args:
        directory: an empty one, where pytest.log is written too.
        exact: whether the margins have the rows within the threshold alone.
        arguments: which tests are run, for pytest.
    """
    directory.mkdir(parents=True)
    source = unpack_source("lsdb", VERSION, directory)
    # The tests are to import the LSDB that is installed.
    source.joinpath("src").rename(source / "src_unused")
    assert replace_margins(source / "tests" / "data", directory / "run", exact) == MARGINS
    return run_tests(source, arguments)


def main() -> int:
    """Run all tests with both kinds of margins; whether any fares otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, help="a new one, which is kept")
    parser.add_argument("arguments", nargs="*", default=["tests"], help="for pytest")
    given = parser.parse_args()
    directory = given.directory or Path(tempfile.mkdtemp(prefix="lsdb_tests_"))
    wrong = 0
    for kind in ("coarse", "exact"):
        outcome = lsdb_outcome(directory.absolute() / kind, kind == "exact", given.arguments)
        print(f"{kind}: {outcome}", flush=True)
        print(*sorted(outcome.failed), sep="\n", flush=True)
        for name in outcome.unexpected(kind == "exact"):
            print(f"{kind}: not as expected: {name}")
            wrong += 1
    print(f"pytest.log is in {directory}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
