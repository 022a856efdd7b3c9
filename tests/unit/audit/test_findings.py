import math
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.audit.findings import (
    Findings,
    MarginReport,
    PixelReport,
    load_findings,
    save_findings,
)
from margin_cache.audit.judgement import Judgement
from margin_cache.errors import MarginCacheError

CLEAN = PixelReport((1, 4), True, True, 9, Judgement([], [], [], []), False, [])
FAULTY = PixelReport(
    (1, 5), False, False, 2, Judgement([2**63 + 1], [(7, 0.1)], [1], [2], 3), True, ["no a"], "gone"
)


def test_findings_come_back_as_they_were_and_are_put_together(tmp_path: Path) -> None:
    save_findings(Findings(5, [CLEAN, FAULTY]), tmp_path / "pieces/1.json")
    save_findings(Findings(2, [CLEAN]), tmp_path / "pieces/2.json")
    paths = [tmp_path / "pieces/1.json", tmp_path / "pieces/2.json"]
    assert load_findings(paths) == Findings(7, [CLEAN, FAULTY, CLEAN])
    assert load_findings(paths).pixels[1].judgement.false == [(7, 0.1)]


def test_unknown_distances_come_back_as_unknown(tmp_path: Path) -> None:
    unknown = replace(CLEAN, judgement=Judgement([], [(3, math.nan)], [], []))
    save_findings(Findings(1, [unknown]), tmp_path / "1.json")
    ((index, beyond),) = load_findings([tmp_path / "1.json"]).pixels[0].judgement.false
    assert index == 3 and math.isnan(beyond)


@pytest.mark.parametrize("text", ["", "{}", '{"candidates": 1, "pixels": [{"pixel": [1, 2]}]}'])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(text)
    with pytest.raises(MarginCacheError, match=r"1.json: cannot be read .*start the audit again"):
        load_findings([tmp_path / "1.json"])


@pytest.mark.parametrize(
    ("change", "is_clean"),
    [
        ({}, True),
        ({"is_unsorted": True}, False),
        ({"schema": ["no column a"]}, False),
        ({"error": "gone"}, False),
        ({"judgement": Judgement([1], [], [], [])}, False),
        ({"judgement": Judgement([], [(1, 2.0)], [], [])}, False),
        ({"judgement": Judgement([], [], [1], [])}, False),
        ({"judgement": Judgement([], [], [], [1])}, False),
        ({"judgement": Judgement([], [], [], [], 4)}, True),
    ],
)
def test_each_fault_of_a_pixel_spoils_the_margin(change: dict[str, object], is_clean: bool) -> None:
    report = MarginReport(10.0, None, [CLEAN, replace(CLEAN, **change)], [], 2)
    assert report.is_clean == is_clean
    assert not replace(report, metadata=["a line"]).is_clean


def test_a_clean_sample_proves_what_the_rule_of_three_says() -> None:
    whole = MarginReport(10.0, None, [CLEAN] * 60, [], 60)
    assert whole.faulty_share == 0
    sample = replace(whole, candidates=6000)
    assert sample.faulty_share == 0.05
    # With as many faulty pixels as that, a clean sample is one of twenty at most.
    assert (1 - sample.faulty_share) ** 60 < 0.05
    assert replace(sample, pixels=[CLEAN]).faulty_share == 1
