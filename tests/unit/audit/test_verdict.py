"""What is told of an audit, and whether it is still about the margin as it is."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from margin_cache.audit.findings import (
    KINDS,
    describe,
    is_passed,
    read_audit,
    read_audit_of,
)
from margin_cache.audit.request import state_of
from margin_cache.errors import MarginCacheError


def audit_with(verdict: str, **values: Any) -> dict[str, Any]:
    """The content of `audit.json`, with the numbers of rows and pixels of some kinds."""
    kinds = values.pop("kinds", {})
    counts = {kind: kinds.get(kind, (0, 0)) for kind in KINDS}
    return {
        "verdict": verdict,
        "margin": {"path": str(Path("results/m").absolute()), "state": "1"},
        "threshold": 5.0,
        "claimed_threshold": None,
        "cell_order": None,
        "only_partitions": None,
        "pixels": {"checked": 84, "all": 84},
        "sample": {"fraction": 1.0, "seed": 0, "unsafe_share_below": 0},
        "kinds": {
            kind: {"rows": rows, "pixels": pixels, "unsafe": KINDS[kind].is_unsafe}
            for kind, (rows, pixels) in counts.items()
        },
        "undecided": 0,
        "missing_outside_partitions": 0,
        "metadata": [],
        "unreadable": [],
        **values,
    }


def test_a_clean_margin_is_told_in_a_few_lines() -> None:
    assert describe(audit_with("clean"), Path("results/m_audit")) == (
        "audit: results/m is clean\n"
        "  threshold: 5 arcsec\n"
        "  checked: all 84 pixels that can have margin rows\n"
        "  details: results/m_audit/audit.json"
    )


def test_a_margin_of_some_partitions_is_not_told_as_one_of_all() -> None:
    first = describe(audit_with("safe", only_partitions=2), Path("out")).splitlines()[0]
    assert first == (
        "audit: results/m is safe, with warnings, for the 2 partitions that were chosen"
    )


def test_defects_are_told_in_a_table() -> None:
    audit = audit_with(
        "unsafe",
        kinds={"missing": (12, 3), "unreadable": (None, 5), "beyond": (4, 1)},
        cell_order=12,
        undecided=7,
        missing_outside_partitions=2,
        metadata=["total_rows is 5, but the files have 4 rows"],
        unreadable=[f"file {number}" for number in range(5)],
    )
    assert describe(audit, Path("out")) == (
        "audit: results/m is UNSAFE: a crossmatch with it can be wrong\n"
        "  kind            rows  pixels\n"
        "  missing           12       3  rows within the threshold that the margin lacks\n"
        "  unreadable         -       5  files that are missing or damaged\n"
        "  beyond             4       1  rows beyond the threshold: the margin is larger than "
        "needed\n"
        "  threshold: 5 arcsec (coarse margin, cells of order 12)\n"
        "  checked: all 84 pixels that can have margin rows\n"
        "  missing in pixels outside the partitions of the catalog: 2 rows\n"
        "  7 rows are too near to the threshold to be judged\n"
        "  metadata: total_rows is 5, but the files have 4 rows\n"
        "  file: file 0\n  file: file 1\n  file: file 2\n  file: 2 more in audit.json\n"
        "  details: out/audit.json"
    )


def test_a_sample_is_never_told_as_the_whole() -> None:
    part: dict[str, Any] = {
        "pixels": {"checked": 60, "all": 600},
        "sample": {"fraction": 0.1, "seed": 7, "unsafe_share_below": 0.05},
    }
    assert describe(audit_with("clean", **part), Path("out")).splitlines() == [
        "audit: results/m is clean, as far as a sample can tell",
        "  threshold: 5 arcsec",
        "  checked: a sample of 60 of 600 pixels (seed 7)",
        "  with 95 % confidence, less than 5 % of the pixels are unsafe (rule of three)",
        "  details: out/audit.json",
    ]
    safe = audit_with("safe", kinds={"unsorted": (None, 1)}, **part)
    first = "audit: results/m is safe, with warnings, as far as a sample can tell"
    assert describe(safe, Path("out")).splitlines()[0] == first
    part["sample"]["unsafe_share_below"] = 3 / 1000
    assert "less than 0.3 % of the pixels" in describe(audit_with("clean", **part), Path("out"))
    part["sample"]["unsafe_share_below"] = None
    doubtful = audit_with("unsafe", kinds={"metadata": (None, 1)}, **part)
    doubtful["kinds"]["metadata"]["unsafe"] = True
    lines = describe(doubtful, Path("out"))
    assert "is UNSAFE" in lines and "Audit all pixels" in lines and "confidence" not in lines


def test_a_margin_that_claims_more_than_was_checked_is_not_told_as_safe_so_far() -> None:
    safe = audit_with("safe", kinds={"metadata": (None, 1)}, claimed_threshold=600.0)
    first = "audit: results/m is safe, with warnings, within 5 arcsec only: it claims 600 arcsec"
    assert describe(safe, Path("out")).splitlines()[0] == first
    unsafe = audit_with("unsafe", kinds={"missing": (1, 1)}, claimed_threshold=600.0)
    assert "within 5" not in describe(unsafe, Path("out")).splitlines()[0]


def test_only_a_strict_audit_fails_for_what_is_safe_but_not_clean() -> None:
    verdicts = ("clean", "safe", "unsafe")
    assert [is_passed(audit_with(verdict), False) for verdict in verdicts] == [True, True, False]
    assert [is_passed(audit_with(verdict), True) for verdict in verdicts] == [True, False, False]


def test_an_audit_is_about_one_margin_in_one_state(tmp_path: Path) -> None:
    margin, results = tmp_path / "margin", tmp_path / "results"
    for directory in (margin, results, tmp_path / "other"):
        directory.mkdir()
    (margin / "file").write_text("rows")
    described = {"path": str(margin), "state": state_of(str(margin))}
    primary = str(tmp_path / "sky")
    audit = audit_with("clean", margin=described, catalog={"path": primary}, request="1")
    assert read_audit(results) is None
    (results / "audit.json").write_text(json.dumps(audit))
    assert read_audit(results) == read_audit_of(results, str(margin), primary) == audit
    (tmp_path / "link").symlink_to(margin)
    assert read_audit_of(results, str(tmp_path / "link"), primary) == audit
    assert read_audit_of(results, str(tmp_path / "other"), primary) is None
    assert read_audit_of(results, str(margin), str(tmp_path / "other sky")) is None
    (margin / "file").write_text("ROWS")
    assert read_audit_of(results, str(margin), primary) is None
    assert read_audit_of(results, str(tmp_path / "nowhere"), primary) is None
    for text in ("{", "[]", '{"verdict": "clean"}'):
        (results / "audit.json").write_text(text)
        assert read_audit(results) is None


def test_the_state_of_a_catalog_changes_with_its_files(tmp_path: Path) -> None:
    deep = tmp_path / "Norder=1/Dir=0"
    deep.mkdir(parents=True)
    file = deep / "Npix=4.parquet"
    file.write_text("ab")
    os.utime(file, (1, 1))
    states = [state_of(str(tmp_path))]
    assert state_of(str(tmp_path)) == states[0]
    os.utime(file, (2, 2))
    states.append(state_of(str(tmp_path)))
    file.write_text("cd")  # of the same size
    os.utime(file, (2, 2))
    states.append(state_of(str(tmp_path)))
    file.write_text("abc")
    os.utime(file, (2, 2))
    states.append(state_of(str(tmp_path)))
    (tmp_path / "_metadata").touch()
    states.append(state_of(str(tmp_path)))
    file.rename(deep / "Npix=5.parquet")
    states.append(state_of(str(tmp_path)))
    assert len(set(states)) == len(states)


def test_links_are_followed_even_in_circles_or_if_broken(tmp_path: Path) -> None:
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky/again").symlink_to(tmp_path / "sky")
    (tmp_path / "sky/nowhere").symlink_to(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "sky/other").symlink_to(tmp_path / "other")
    before = state_of(str(tmp_path / "sky"))
    (tmp_path / "other/file").touch()
    assert state_of(str(tmp_path / "sky")) != before
    with pytest.raises(MarginCacheError, match=r"none: cannot be read \(No such file"):
        state_of(str(tmp_path / "none"))
