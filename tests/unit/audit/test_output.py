import json
from pathlib import Path

import pandas as pd
import pytest
from margin_cache.audit.judgement import Judgement
from margin_cache.audit.output import check_place, summary, write_report
from margin_cache.audit.report import MarginReport, PixelReport
from margin_cache.errors import MarginCacheError

NOTHING = Judgement([], [], [], [], 0)
FAULTS = Judgement([4, 4], [(7, 0.25), (8, float("nan"))], [1], [2], 3)
CLEAN = PixelReport((1, 4), True, True, 9, NOTHING, False, [])
FAULTY = PixelReport((1, 5), False, False, 0, FAULTS, True, ["no column a"], "gone")


def test_the_files_name_the_rows(tmp_path: Path) -> None:
    write_report(MarginReport(10.0, None, [CLEAN, FAULTY], ["a line"]), tmp_path / "out")
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
    assert summary(MarginReport(10.0, None, [CLEAN], [])) == "nothing wrong"
    assert summary(MarginReport(10.0, None, [CLEAN, FAULTY], [])) == (
        "2 missing, 2 false, 1 double, 1 changed, 1 unsorted, 1 schema, 1 unreadable; "
        "2 of the missing are beside the partitions; 3 rows too near to the threshold to be judged"
    )


def test_an_audit_is_written_where_there_is_nothing_or_an_older_one(tmp_path: Path) -> None:
    place = tmp_path / "out"
    check_place(place)
    write_report(MarginReport(10.0, None, [CLEAN], []), place)
    check_place(place)
    (place / "catalog_info.json").touch()
    with pytest.raises(MarginCacheError, match=r"/out: has catalog_info.json, which is not of an"):
        check_place(place)
    (tmp_path / "file").touch()
    with pytest.raises(MarginCacheError, match="/file: Not a directory; choose another place"):
        check_place(tmp_path / "file")
