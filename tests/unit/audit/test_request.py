import os
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.audit import request as request_module
from margin_cache.audit.request import (
    SKY,
    AuditRequest,
    SkyRange,
    catalogs_state,
    check_state,
    cut_sky,
    is_chosen,
    load_request,
    request_id,
    save_request,
    tree_state,
)
from margin_cache.errors import MarginCacheError

REQUEST = AuditRequest("sky", "margin", "out", 5.0, 3, 0.5, 7, "ab", cut_sky(["a", "b"], [4, 9]))
EVERY = [(2, number) for number in range(192)] + [(0, 3), (29, SKY - 1), (29, 0)]


def test_each_pixel_is_in_one_piece() -> None:
    order_2 = SKY // 192
    pieces = cut_sky(["a", "b", "c"], [5 * order_2, 7 * order_2, 100 * order_2])
    assert [piece.name for piece in pieces if piece.has((2, 0))] == ["a"]
    assert [piece.name for piece in pieces if piece.has((2, 6))] == ["a"]
    assert [piece.name for piece in pieces if piece.has((2, 7))] == ["b"]
    assert [piece.name for piece in pieces if piece.has((0, 0))] == ["a"]
    assert all(sum(piece.has(pixel) for piece in pieces) == 1 for pixel in EVERY)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [SkyRange("a", 0, SKY - 1)],
        [SkyRange("a", 1, SKY)],
        [SkyRange("a", 0, 5), SkyRange("b", 6, SKY)],
        [SkyRange("a", 0, 5), SkyRange("b", 4, SKY)],
    ],
)
def test_pieces_that_are_not_the_whole_sky_are_refused(pieces: list[SkyRange]) -> None:
    with pytest.raises(ValueError, match="not the whole sky"):
        replace(REQUEST, pieces=tuple(pieces))


def test_a_sample_is_of_the_size_that_is_asked_for_and_follows_from_the_seed() -> None:
    pixels = [(6, number) for number in range(10_000)]
    samples = [[pixel for pixel in pixels if is_chosen(pixel, 0.1, seed)] for seed in (1, 2, 1)]
    assert all(900 < len(sample) < 1100 for sample in samples)
    assert samples[0] == samples[2]
    assert 60 < len(set(samples[0]) & set(samples[1])) < 140  # as if one knew nothing of the other
    assert set(samples[0]) < {pixel for pixel in pixels if is_chosen(pixel, 0.2, 1)}
    assert all(is_chosen(pixel, 1.0, 1) for pixel in pixels)
    numbers = [{n for n in range(1000) if is_chosen((order, n), 0.5, 1)} for order in (5, 6)]
    assert 400 < len(numbers[0] ^ numbers[1]) < 600


def test_the_state_of_a_catalog_follows_each_change_of_its_files(tmp_path: Path) -> None:
    deep = tmp_path / "Norder=1/Dir=0"
    deep.mkdir(parents=True)
    file = deep / "Npix=4.parquet"
    file.write_text("ab")
    os.utime(file, (1, 1))
    states = [tree_state(tmp_path)]
    assert tree_state(tmp_path) == states[0]
    os.utime(file, (2, 2))
    states.append(tree_state(tmp_path))
    file.write_text("abc")
    os.utime(file, (2, 2))
    states.append(tree_state(tmp_path))
    (tmp_path / "_metadata").touch()
    states.append(tree_state(tmp_path))
    file.rename(deep / "Npix=5.parquet")
    states.append(tree_state(tmp_path))
    assert len(set(states)) == len(states)


def test_links_are_followed_and_may_lead_in_circles_or_nowhere(tmp_path: Path) -> None:
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky/again").symlink_to(tmp_path / "sky")
    (tmp_path / "sky/nowhere").symlink_to(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "sky/other").symlink_to(tmp_path / "other")
    before = tree_state(tmp_path / "sky")
    (tmp_path / "other/file").touch()
    assert tree_state(tmp_path / "sky") != before
    with pytest.raises(MarginCacheError, match=r"none: cannot be read \(No such file"):
        tree_state(tmp_path / "none")


def test_a_catalog_that_changes_meanwhile_is_found(tmp_path: Path) -> None:
    for name in ("sky", "margin"):
        (tmp_path / name).mkdir()
    sky, margin = str(tmp_path / "sky"), str(tmp_path / "margin")
    request = replace(REQUEST, primary=sky, margin=margin, state=catalogs_state(sky, margin))
    check_state(request)
    for name in ("sky", "margin"):
        (tmp_path / name / "file").touch()
        with pytest.raises(MarginCacheError, match="was changed while it was audited"):
            check_state(request)
        (tmp_path / name / "file").unlink()


def test_another_request_has_another_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    others = [
        replace(REQUEST, **{name: value})
        for name, value in {
            **{"primary": "x", "margin": "x", "output_dir": "x", "threshold": 6.0},
            **{"cell_order": None, "fraction": 0.6, "seed": 8, "state": "cd"},
            "pieces": cut_sky(["a"], [0]),
        }.items()
    ]
    assert len({*map(request_id, others), request_id(REQUEST)}) == len(others) + 1
    here = request_id(REQUEST)
    (tmp_path / "changed.py").write_text("x = 1")
    monkeypatch.setattr(request_module, "__file__", str(tmp_path / "request.py"))
    assert request_id(REQUEST) != here


def test_requests_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "audit/request.json"
    save_request(REQUEST, path)
    assert load_request(path) == REQUEST
    assert REQUEST.piece("b") == SkyRange("b", 9, SKY)
    for text in ("{}", '{"pieces": []', "[]"):
        path.write_text(text)
        with pytest.raises(MarginCacheError, match="delete it, and start the audit again"):
            load_request(path)
