"""The table of all kinds of faults, at the end of what pytest prints."""

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from support import faults
from support.faults import Tally
from support.measuring import source_of_numbers

pytestmark = pytest.mark.usefixtures("tally")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Tally]]:
    """Makes the tally of a kind; at the end of the test, no case may have gone wrong."""
    tallies: list[Tally] = []

    def of(kind: str) -> Tally:
        tallies.append(Tally(kind))
        return tallies[-1]

    yield of
    request.node.user_properties += [each.property() for each in tallies]
    wrong = [line for each in tallies for line in each.wrong]
    assert not wrong, "\n".join(wrong[:20])
    assert all(each.counts["tried"] for each in tallies), "a kind without a case"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and write it into the file that FAULTS_TABLE names."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    properties = [
        pair
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for pair in report.user_properties
    ]
    lines = faults.table(properties)
    if not lines:
        return
    command = "make faults" if faults.LONG else "pytest tests/faults"
    kernel = platform.release().partition("-")[0]
    made = (
        f"*Measured with {source_of_numbers(command)}, {platform.system()} {kernel}, "
        f"Python {platform.python_version()}, PyArrow {pa.__version__}; seed {faults.SEED}.*"
    )
    terminalreporter.section("faults")
    terminalreporter.write_line("\n".join([made, "", *lines]))
    if name := os.environ.get("FAULTS_TABLE"):
        Path(name).write_text("\n".join([made, "", *lines, ""]), encoding="utf-8")
