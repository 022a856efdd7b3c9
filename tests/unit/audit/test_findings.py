from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.audit.compare import RowDefects
from margin_cache.audit.findings import (
    AuditReport,
    PixelFindings,
    RangeFindings,
    load_findings,
    save_findings,
)
from margin_cache.errors import MarginCacheError

CLEAN = PixelFindings((1, 4), True, True, 9, RowDefects([], [], [], [], []), False, [])
FAULTY = PixelFindings(
    (1, 5),
    False,
    False,
    2,
    RowDefects([2**63 + 1], [2], [5], [1], [(7, 0.1)], 3),
    True,
    ["no a"],
    "gone",
)


def test_findings_are_saved_loaded_and_combined(tmp_path: Path) -> None:
    save_findings(RangeFindings(5, [CLEAN, FAULTY]), tmp_path / "1.json")
    save_findings(RangeFindings(2, [CLEAN]), tmp_path / "2.json")
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    assert load_findings(paths) == RangeFindings(7, [CLEAN, FAULTY, CLEAN])
    assert load_findings(paths).pixels[1].row_defects.beyond == [(7, 0.1)]


@pytest.mark.parametrize("text", ["", "{}", '{"candidates": 1, "pixels": [{"pixel": [1, 2]}]}'])
def test_a_damaged_file_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(text)
    with pytest.raises(MarginCacheError, match=r"1.json: cannot be read .*Delete it, and start"):
        load_findings([tmp_path / "1.json"])


@pytest.mark.parametrize(
    ("change", "is_clean"),
    [
        ({}, True),
        ({"is_unsorted": True}, False),
        ({"schema": ["no column a"]}, False),
        ({"error": "gone"}, False),
        ({"row_defects": RowDefects([1], [], [], [], [])}, False),
        ({"row_defects": RowDefects([], [], [], [], [(1, 2.0)])}, False),
        ({"row_defects": RowDefects([], [], [1], [], [])}, False),
        ({"row_defects": RowDefects([], [], [], [1], [])}, False),
        ({"row_defects": RowDefects([], [], [], [], [], 4)}, True),
    ],
)
def test_any_defect_makes_the_margin_faulty(change: dict[str, object], is_clean: bool) -> None:
    report = AuditReport(10.0, None, [CLEAN, replace(CLEAN, **change)], [], 2)
    assert report.is_clean == is_clean
    assert not replace(report, metadata=["a line"]).is_clean


def test_a_clean_sample_limits_the_share_of_faulty_pixels() -> None:
    whole = AuditReport(10.0, None, [CLEAN] * 60, [], 60)
    assert whole.max_faulty_share == 0
    sample = replace(whole, candidates=6000)
    assert sample.max_faulty_share == 0.05
    # With this share of faulty pixels, at most one sample of twenty is clean.
    assert (1 - sample.max_faulty_share) ** 60 < 0.05
    assert replace(sample, pixels=[CLEAN]).max_faulty_share == 1
