import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
from margin_cache.audit.compare import RowDefects
from margin_cache.audit.findings import AuditReport, PixelFindings
from margin_cache.audit.output import (
    MAP_ORDER,
    draw_sky_map,
    sky_map,
    summary,
    write_audit,
)

NOTHING = RowDefects([], [], [], [], [])
FAULTS = RowDefects([4, 4], [2], [8], [1], [(7, 0.25)], 3)
CLEAN = PixelFindings((1, 4), True, True, 9, NOTHING, False, [])
FAULTY = PixelFindings((1, 5), False, False, 0, FAULTS, True, ["no column a"], "gone")


def test_the_files_name_the_wrong_rows(tmp_path: Path) -> None:
    write_audit(AuditReport(10.0, None, [CLEAN, FAULTY], ["a line"], 2), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("audit.csv", "audit.json", "beyond.png", "missing.png")
    }
    content = json.loads((tmp_path / "out/audit.json").read_text())
    assert content["verdict"] == "faulty"
    assert content["undecided"] == 3
    assert content["missing_outside_partitions"] == 2
    assert content["metadata"] == ["a line"]
    (pixel,) = content["pixels"]
    assert (pixel["order"], pixel["pixel"]) == (1, 5)
    assert pixel["missing"] == [4, 4]
    assert pixel["beyond"] == [{"index": 7, "beyond": 0.25}]
    assert pixel["foreign"] == [8]
    table = pd.read_csv(tmp_path / "out/audit.csv")
    kinds = ["missing", "changed", "foreign", "duplicate", "beyond", "undecided"]
    assert table[kinds].to_numpy().tolist() == [[0] * 6, [2, 1, 1, 1, 1, 3]]
    assert table["is_partition"].tolist() == [1, 0]


def test_the_summary_is_one_line() -> None:
    assert summary(AuditReport(10.0, None, [CLEAN], [], 1)) == "nothing wrong"
    assert summary(AuditReport(10.0, None, [CLEAN, FAULTY], [], 2)) == (
        "2 missing, 1 changed, 1 foreign, 1 duplicate, 1 beyond, 1 unsorted, 1 schema, "
        "1 unreadable; "
        "2 of the missing rows belong to pixels outside the partitions; "
        "3 rows are too near to the threshold to be judged"
    )


def test_the_result_of_a_sample_has_its_confidence(tmp_path: Path) -> None:
    sample = AuditReport(10.0, None, [CLEAN] * 60, [], 600, 0.1, 7)
    assert summary(sample) == (
        "nothing wrong; in a sample of 60 of 600 pixels (seed 7); with 95 % confidence, less than "
        "0.05 of the pixels are faulty (rule of three)"
    )
    faulty = AuditReport(10.0, None, [CLEAN, FAULTY], [], 600, 0.1, 7)
    assert "in a sample of 2 of 600 pixels" in summary(faulty)
    assert "confidence" not in summary(faulty)
    whole = AuditReport(10.0, None, [CLEAN], [], 1)
    for report, share in ((sample, 0.05), (faulty, None), (whole, 0)):
        write_audit(report, tmp_path)
        sample_json = json.loads((tmp_path / "audit.json").read_text())["sample"]
        assert sample_json["faulty_share_below"] == share
        assert (
            sample_json["pixels"] == len(report.pixels) and sample_json["of"] == report.candidates
        )
    assert sample_json == {"fraction": 1, "seed": 0, "pixels": 1, "of": 1, "faulty_share_below": 0}


def test_a_map_has_the_rows_of_each_pixel() -> None:
    values = sky_map({(0, 1): 3, (2, 5): 7, (2, 0): 0})
    assert len(values) == 192
    assert (values[16:32] == 3).all()
    assert values[5] == 7
    assert values[0] == 0
    assert np.isnan(values).sum() == 192 - 18


def test_small_pixels_are_added_up() -> None:
    values = sky_map({(MAP_ORDER + 1, 4): 1, (MAP_ORDER + 1, 7): 2})
    assert np.nansum(values) == values[1] == 3


def test_the_picture_shows_where_rows_are(tmp_path: Path) -> None:
    for name, rows in (("none", 0), ("some", 5)):
        draw_sky_map(
            {(1, number): rows * (number == 20) for number in range(48)}, "", tmp_path / name
        )
    none, some = (matplotlib.image.imread(tmp_path / name, "png") for name in ("none", "some"))
    assert none.shape == some.shape
    share = (none != some).any(axis=2).mean()
    assert 0.001 < share < 0.1
