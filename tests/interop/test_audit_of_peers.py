"""The audit finds in margins of other programs what a brute-force search does."""

from collections import Counter
from dataclasses import replace

import pytest
from margin_cache.audit.findings import AuditReport
from margin_cache.audit.request import AuditRequest
from support.audited_sites import RowsOfPixels, rows_of_margin, true_rows
from support.audits import audit_margin
from support.peer_margins import CELL_ORDER, DATA, WRITERS


def request_of(name: str) -> AuditRequest:
    return AuditRequest(str(DATA / name / "sky"), str(DATA / name / "margin"), "unused")


def missing_and_beyond(report: AuditReport) -> tuple[RowsOfPixels, RowsOfPixels]:
    defects = [(result.pixel, result.row_defects) for result in report.pixels]
    missing = Counter((pixel, row) for pixel, rows in defects for row in rows.missing)
    beyond = Counter((pixel, row) for pixel, rows in defects for row, _ in rows.beyond)
    return missing, beyond


@pytest.mark.parametrize("name", WRITERS)
def test_missing_and_beyond_rows_equal_the_oracle(name: str) -> None:
    truth, made = true_rows(DATA / name / "sky"), rows_of_margin(DATA / name / "margin")
    assert len(truth) > 100
    report = audit_margin(replace(request_of(name), is_coarse=False))
    assert missing_and_beyond(report) == (truth - made, made - truth)
    assert not any(result.row_defects.undecided for result in report.pixels)
    assert not (
        report.counts["duplicate"] or report.counts["changed"] or report.counts["unreadable"]
    )


def test_the_defects_of_their_margins_are_known() -> None:
    """hipscat-import loses rows; hats-import keeps all rows of cells, which it does not record."""
    hipscat, hats = (audit_margin(request_of(name)) for name in WRITERS)
    assert hipscat.counts["missing"] > 0
    assert {kind for kind, number in hats.counts.items() if number} == {"unsorted"}
    assert hats.cell_order == CELL_ORDER


def test_the_data_are_small() -> None:
    for name in WRITERS:
        for part in ("sky", "margin"):
            sizes = [file.stat().st_size for file in (DATA / name / part).rglob("*")]
            assert 0 < sum(sizes) < 300_000
