import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from margin_cache import __version__, figures
from margin_cache.audit import findings
from margin_cache.audit.findings import (
    AuditReport,
    PixelFindings,
    RowDefects,
    draw_map,
    read_audit,
    write_audit,
)
from margin_cache.audit.request import AuditRequest, request_id
from margin_cache.figures import draw_faults

NOTHING = RowDefects([], [], [], [], [])
FAULTS = RowDefects([4, 4], [2], [8], [1], [(7, 0.25)], 3)
CLEAN = PixelFindings((1, 4), True, True, 9, NOTHING, False, [])
UNSORTED = replace(CLEAN, is_unsorted=True)
FAULTY = PixelFindings((1, 5), False, False, 0, FAULTS, True, ["no column a"], "gone")


REQUEST = AuditRequest("sky", "margin", "out", states=("1", "2"))


def test_the_files_name_the_wrong_rows(tmp_path: Path) -> None:
    report = AuditReport(10.0, None, [CLEAN, FAULTY], ["a line"], 2, unreadable=["x"])
    returned = write_audit(report, REQUEST, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"audit.json", "audit.png"}
    content = json.loads((tmp_path / "out/audit.json").read_text())
    assert content == read_audit(tmp_path / "out")
    assert content["kinds"] == json.loads(json.dumps(returned["kinds"]))
    assert content["verdict"] == "unsafe"
    assert content["kinds"]["missing"] == {"rows": 2, "pixels": 1, "unsafe": True}
    assert content["kinds"]["foreign"] == {"rows": 1, "pixels": 1, "unsafe": True}
    assert content["kinds"]["beyond"] == {"rows": 1, "pixels": 1, "unsafe": False}
    assert content["undecided"] == 3
    assert content["missing_outside_partitions"] == 2
    assert content["metadata"] == ["a line"]
    assert content["unreadable"] == ["gone", "x"]
    (pixel,) = content["faulty_pixels"]
    assert (pixel["order"], pixel["pixel"]) == (1, 5)
    assert pixel["missing"] == [4, 4]
    assert pixel["beyond"] == [{"index": 7, "arcsec": 0.25}]
    assert pixel["foreign"] == [8]


def test_the_file_says_what_was_audited_and_when(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    content = write_audit(AuditReport(10.0, 12, [CLEAN], [], 1), REQUEST, tmp_path)
    assert content["margin"] == {"path": str(Path("margin").absolute()), "state": "2"}
    assert content["catalog"] == {"path": str(Path("sky").absolute()), "state": "1"}
    assert (content["threshold"], content["cell_order"]) == (10.0, 12)
    assert before <= datetime.fromisoformat(content["time"]) <= datetime.now(UTC)
    assert content["versions"]["margin_cache"] == __version__
    assert content["versions"]["hats"] == version("hats")
    assert content["request"] == request_id(REQUEST)
    assert content["pixels"] == {"checked": 1, "all": 1}


def test_the_result_of_a_sample_has_its_confidence(tmp_path: Path) -> None:
    sample = AuditReport(10.0, None, [CLEAN] * 60, [], 600)
    safe = replace(sample, pixels=[UNSORTED] * 60)
    unsafe = AuditReport(10.0, None, [CLEAN, FAULTY], [], 600)
    whole = AuditReport(10.0, None, [CLEAN], [], 1)
    request = replace(REQUEST, fraction=0.1, seed=7)
    for report, share in ((sample, 0.05), (safe, 0.05), (unsafe, None), (whole, 0)):
        content = write_audit(report, request, tmp_path)
        assert content["sample"] == {"fraction": 0.1, "seed": 7, "unsafe_share_below": share}
        checked, candidates = len(report.pixels), report.candidates
        assert content["pixels"] == {"checked": checked, "all": candidates}


def test_no_verdict_is_left_beside_files_of_another_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audit(AuditReport(10.0, None, [CLEAN], [], 1), REQUEST, tmp_path)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(findings, "draw_map", killed)
    with pytest.raises(KeyboardInterrupt):
        write_audit(AuditReport(10.0, None, [FAULTY], [], 1), REQUEST, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_map_counts_defects_by_pixel_and_says_what_it_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def draw(axes: Any, orders: Any, pixels: Any, counts: Any) -> Any:
        drawn.append((orders.tolist(), pixels.tolist(), counts.tolist()))
        return draw_faults(axes, orders, pixels, counts)

    def look(figure: Any) -> tuple[Any, ...]:
        titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
        return figure.get_suptitle(), *titles

    monkeypatch.setattr(figures, "draw_faults", draw)
    monkeypatch.setattr(figures, "render", look)
    report = AuditReport(10.0, None, [FAULTY, UNSORTED], [], 3)
    assert draw_map(report, "gaia_10arcs") == (
        "gaia_10arcs, 10 arcsec: unsafe; 2 of 3 pixels checked",
        "unsafe: 2 missing, 1 changed, 1 foreign, 1 duplicate, 1 unreadable, 1 columns",
        "harmless: 1 beyond, 2 unsorted",
    )
    pixels = [1, 1], [4, 5]
    assert drawn == [(*pixels, [0, 7]), (*pixels, [1, 2])]
