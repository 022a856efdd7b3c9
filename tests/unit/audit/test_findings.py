from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.audit.findings import (
    AuditReport,
    PixelFindings,
    RangeFindings,
    RowDefects,
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
    RowDefects([2**63 + 1], [2, 2], [5], [1], [(7, 0.1), (8, 2.0)], 3),
    True,
    ["no a"],
    "gone",
)


def test_findings_are_saved_loaded_and_combined(tmp_path: Path) -> None:
    save_findings(RangeFindings(5, [CLEAN, FAULTY]), tmp_path / "1.json")
    save_findings(RangeFindings(2, [CLEAN]), tmp_path / "2.json")
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    assert load_findings(paths) == RangeFindings(7, [CLEAN, FAULTY, CLEAN])
    assert load_findings(paths).pixels[1].row_defects.beyond == [(7, 0.1), (8, 2.0)]


@pytest.mark.parametrize("text", ["", "{}", '{"candidates": 1, "pixels": [{"pixel": [1, 2]}]}'])
def test_a_damaged_file_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(text)
    with pytest.raises(MarginCacheError, match=r"1.json: this intermediate file of the audit"):
        load_findings([tmp_path / "1.json"])


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "clean"),
        ({"is_unsorted": True}, "safe"),
        ({"schema": ["no column a"]}, "unsafe"),
        ({"error": "gone"}, "unsafe"),
        ({"row_defects": RowDefects([1], [], [], [], [])}, "unsafe"),
        ({"row_defects": RowDefects([], [1], [], [], [])}, "unsafe"),
        ({"row_defects": RowDefects([], [], [1], [], [])}, "unsafe"),
        ({"row_defects": RowDefects([], [], [], [1], [])}, "unsafe"),
        ({"row_defects": RowDefects([], [], [], [], [(1, 2.0)])}, "safe"),
        ({"row_defects": RowDefects([], [], [], [], [], 4)}, "clean"),
    ],
)
def test_a_margin_is_unsafe_if_a_crossmatch_with_it_can_be_wrong(
    change: dict[str, object], verdict: str
) -> None:
    report = AuditReport(10.0, None, [CLEAN, replace(CLEAN, **change)], [], 2)
    assert report.verdict == verdict
    with_line = replace(report, metadata=["a line"], contradictions=1)
    assert with_line.verdict == ("unsafe" if verdict == "unsafe" else "safe")
    assert replace(report, unreadable=["outside of the sample"]).verdict == "unsafe"


def test_a_sample_is_not_safe_if_files_outside_of_it_contradict_the_metadata() -> None:
    sample = AuditReport(10.0, None, [CLEAN], ["a line"], 2)
    assert sample.verdict == "safe"
    assert replace(sample, contradictions=1).verdict == "unsafe"


def test_defects_are_counted_by_rows_and_pixels() -> None:
    report = AuditReport(10.0, None, [CLEAN, FAULTY, FAULTY], ["a", "b"], 3, unreadable=["x"])
    found = {kind: tuple(count) for kind, count in report.kinds.items() if count.pixels}
    assert found == {
        **{"missing": (2, 2), "changed": (4, 2), "foreign": (2, 2), "duplicate": (2, 2)},
        **{
            "unreadable": (None, 3),
            "columns": (None, 2),
            "beyond": (4, 2),
            "unsorted": (None, 2),
            "metadata": (None, 2),
        },
    }


def test_a_safe_sample_limits_the_share_of_unsafe_pixels() -> None:
    whole = AuditReport(10.0, None, [CLEAN] * 60, [], 60)
    assert whole.max_unsafe_share == 0
    sample = replace(whole, candidates=6000)
    assert sample.max_unsafe_share == 0.05
    # With this share of unsafe pixels, at most one sample of twenty is safe.
    assert (1 - sample.max_unsafe_share) ** 60 < 0.05
    assert replace(sample, pixels=[CLEAN]).max_unsafe_share == 1
