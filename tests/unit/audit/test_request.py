from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.audit import request as request_module
from margin_cache.audit.request import (
    SKY_END,
    AuditRequest,
    SkyRange,
    catalogs_states,
    check_unchanged,
    cut_sky,
    read_dataclass,
    remove_results,
    request_id,
    save_request,
)
from margin_cache.errors import MarginCacheError

REQUEST = AuditRequest(
    *("sky", "margin", "out", 5.0, 3, 0.5, 7, ("a", "b")),
    cut_sky(["a", "b"], [4, 9]),
    only_pixels=((1, 4), (2, 7)),
)


def test_a_catalog_that_changes_during_an_audit_is_an_error(tmp_path: Path) -> None:
    for name in ("sky", "margin"):
        (tmp_path / name).mkdir()
    sky, margin = str(tmp_path / "sky"), str(tmp_path / "margin")
    request = replace(REQUEST, primary=sky, margin=margin, states=catalogs_states(sky, margin))
    check_unchanged(request)
    for name in ("sky", "margin"):
        (tmp_path / name / "file").touch()
        with pytest.raises(MarginCacheError, match="changed during the audit"):
            check_unchanged(request)
        (tmp_path / name / "file").unlink()


def test_another_request_has_another_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    others = [
        replace(REQUEST, **{name: value})
        for name, value in {
            **{"primary": "x", "margin": "x", "output_dir": "x", "threshold": 6.0},
            **{"cell_order": None, "fraction": 0.6, "seed": 8, "states": ("c", "b")},
            **{"is_coarse": True, "only_pixels": None, "sky_ranges": cut_sky(["a"], [0])},
        }.items()
    ]
    assert len({*map(request_id, others), request_id(REQUEST)}) == len(others) + 1
    here = request_id(REQUEST)
    (tmp_path / "changed.py").write_text("x = 1")
    monkeypatch.setattr(request_module, "__file__", str(tmp_path / "request.py"))
    assert request_id(REQUEST) != here


def test_requests_are_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "audit/request.json"
    save_request(REQUEST, path)
    assert read_dataclass(AuditRequest, path) == REQUEST
    assert REQUEST.sky_range("b") == SkyRange("b", 9, SKY_END)
    for text in ("{}", '{"sky_ranges": []', "[]"):
        path.write_text(text)
        with pytest.raises(
            MarginCacheError, match=r"Delete it if it exists, and start the audit again\."
        ):
            read_dataclass(AuditRequest, path)


def test_results_of_an_earlier_audit_are_removed(tmp_path: Path) -> None:
    for name in ("audit.json", "audit.png", "notes.txt"):
        (tmp_path / name).touch()
    remove_results(tmp_path)
    remove_results(tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
