import json
from pathlib import Path

import pandas as pd
from margin_cache.audit.findings import MarginReport, PixelReport
from margin_cache.audit.judgement import Judgement
from margin_cache.audit.output import summary, write_report

NOTHING = Judgement([], [], [], [], 0)
FAULTS = Judgement([4, 4], [(7, 0.25), (8, float("nan"))], [1], [2], 3)
CLEAN = PixelReport((1, 4), True, True, 9, NOTHING, False, [])
FAULTY = PixelReport((1, 5), False, False, 0, FAULTS, True, ["no column a"], "gone")


def test_the_files_name_the_rows(tmp_path: Path) -> None:
    write_report(MarginReport(10.0, None, [CLEAN, FAULTY], ["a line"], 2), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("audit.csv", "audit.json", "false.png", "missing.png")
    }
    content = json.loads((tmp_path / "out/audit.json").read_text())
    assert content["verdict"] == "faulty"
    assert content["undecided"] == 3
    assert content["missing_beside_partitions"] == 2
    assert content["metadata"] == ["a line"]
    (pixel,) = content["pixels"]
    assert (pixel["order"], pixel["pixel"]) == (1, 5)
    assert pixel["missing"] == [4, 4]
    assert pixel["false"] == [{"index": 7, "beyond": 0.25}, {"index": 8, "beyond": None}]
    table = pd.read_csv(tmp_path / "out/audit.csv")
    assert table[["missing", "false", "double", "changed", "undecided"]].to_numpy().tolist() == [
        [0, 0, 0, 0, 0],
        [2, 2, 1, 1, 3],
    ]
    assert table["is_partition"].tolist() == [1, 0]


def test_the_summary_is_a_line() -> None:
    assert summary(MarginReport(10.0, None, [CLEAN], [], 1)) == "nothing wrong"
    assert summary(MarginReport(10.0, None, [CLEAN, FAULTY], [], 2)) == (
        "2 missing, 2 false, 1 double, 1 changed, 1 unsorted, 1 schema, 1 unreadable; "
        "2 of the missing are beside the partitions; 3 rows too near to the threshold to be judged"
    )


def test_of_a_sample_it_is_said_what_it_proves(tmp_path: Path) -> None:
    sample = MarginReport(10.0, None, [CLEAN] * 60, [], 600, 0.1, 7)
    assert summary(sample) == (
        "nothing wrong; in a sample of 60 of 600 pixels, by seed 7; with 95 % confidence less than "
        "0.05 of the pixels are faulty, by the rule of three"
    )
    faulty = MarginReport(10.0, None, [CLEAN, FAULTY], [], 600, 0.1, 7)
    assert "in a sample of 2 of 600 pixels" in summary(faulty)
    assert "confidence" not in summary(faulty)
    whole = MarginReport(10.0, None, [CLEAN], [], 1)
    for report, share in ((sample, 0.05), (faulty, None), (whole, 0)):
        write_report(report, tmp_path)
        said = json.loads((tmp_path / "audit.json").read_text())["sample"]
        assert said["faulty_share_below"] == share
        assert said["pixels"] == len(report.pixels) and said["of"] == report.candidates
    assert said == {"fraction": 1, "seed": 0, "pixels": 1, "of": 1, "faulty_share_below": 0}
