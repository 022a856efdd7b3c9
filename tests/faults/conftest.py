"""The table of all kinds of faults, at the end of what pytest prints."""

import os
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from support import faults
from support.faults import Tally

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
    kernel = platform.release().partition("-")[0]
    made = (
        f"Seed {faults.SEED}, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"{platform.system()} {kernel}, Python {platform.python_version()}, "
        f"PyArrow {pa.__version__}; the {'long' if faults.LONG else 'short'} form."
    )
    terminalreporter.section("faults")
    terminalreporter.write_line("\n".join([made, "", *lines]))
    if name := os.environ.get("FAULTS_TABLE"):
        Path(name).write_text("\n".join([made, "", *lines, ""]), encoding="utf-8")
