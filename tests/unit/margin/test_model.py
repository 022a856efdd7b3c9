"""A margin is loaded by other processes as the main process has saved it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.margin import model
from margin_cache.margin.model import (
    Margin,
    load_margin,
    load_margins,
    save_margin,
    settings_as_json,
)


def test_a_margin_is_loaded_as_it_was_saved(prepare: Callable[..., Margin]) -> None:
    margin = prepare(debug_filter_pixel_list=[[0, 3], [0, 5]])
    for loaded in (load_margin(margin.files.margin_file), *load_margins([margin.settings])):
        assert loaded.settings == margin.settings
        assert loaded.name == margin.name
        assert loaded.plan.plan_id == margin.plan.plan_id
        assert loaded.files == margin.files
        assert loaded.done_file == margin.done_file


def test_a_saved_margin_is_not_written_again(prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    before = margin.files.margin_file.stat().st_ino
    save_margin(margin)
    assert margin.files.margin_file.stat().st_ino == before
    save_margin(replace(margin, may_be_default=False))
    assert margin.files.margin_file.stat().st_ino != before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PATIENCE", 0.0)


def test_settings_without_a_plan_are_refused(
    prepare: Callable[..., Margin], impatient: None
) -> None:
    margin = prepare()
    with pytest.raises(MarginCacheError, match="has no plan of this configuration"):
        load_margins([replace(margin.settings, overwrite=True)])


def test_a_directory_that_is_not_visible_is_named(
    prepare: Callable[..., Margin],
    impatient: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    settings = replace(prepare().settings, tmp_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(RetryableError, match=r"^tmp_dir: .*/elsewhere has no plan of .* on n7,"):
        load_margins([settings])


def test_a_plan_may_become_visible_late(
    prepare: Callable[..., Margin], monkeypatch: pytest.MonkeyPatch
) -> None:
    margin = prepare()
    directory = margin.intermediate_dir.parent
    hidden = directory.rename(directory.with_name("elsewhere"))
    monkeypatch.setattr(model.time, "sleep", lambda _: hidden.rename(directory))
    (loaded,) = load_margins([margin.settings])
    assert loaded.plan.plan_id == margin.plan.plan_id


def test_settings_have_the_types_of_json(prepare: Callable[..., Margin]) -> None:
    margin = prepare(debug_filter_pixel_list=[[0, 3]])
    assert settings_as_json(margin.settings)["debug_filter_pixel_list"] == [[0, 3]]


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"settings": {}}'])
def test_a_damaged_margin_file_is_named(
    prepare: Callable[..., Margin], impatient: None, content: str
) -> None:
    margin = prepare()
    margin.files.margin_file.write_text(content)
    with pytest.raises(MarginCacheError, match=r"margin\.json: is missing or damaged. Start"):
        load_margin(margin.files.margin_file)
    with pytest.raises(MarginCacheError, match="has no plan of this configuration"):
        load_margins([margin.settings])
    assert load_margin(prepare().files.margin_file).name == margin.name


def test_settings_of_audits_do_not_hide_a_margin(prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    asked = replace(margin.settings, audit_catalog_path="/x", audit_fraction=0.5, audit_seed=3)
    assert settings_as_json(asked) == settings_as_json(margin.settings)
    (loaded,) = load_margins([asked])
    assert loaded.plan.plan_id == margin.plan.plan_id
