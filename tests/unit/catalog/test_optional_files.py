"""hats makes optional files in a process of its own; its errors are one line."""

from pathlib import Path

import pytest
from margin_cache.catalog.hats import OPTIONAL_FILES, make_optional_files
from margin_cache.config.model import MarginSettings, Table, given_keys
from margin_cache.errors import MarginCacheError


def test_each_key_for_an_optional_file_has_a_file_name() -> None:
    settings = MarginSettings(**{key: True for key in OPTIONAL_FILES})
    assert given_keys(settings, Table.HATS) == list(OPTIONAL_FILES)


def test_without_keys_nothing_is_made(tmp_path: Path) -> None:
    assert make_optional_files(tmp_path / "nowhere", "margin", []) == []


def test_an_error_of_hats_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        MarginCacheError,
        match=r"^create_summary_md: hats cannot make .* of this margin \(.+\)\. Remove",
    ) as caught:
        make_optional_files(tmp_path, "margin", ["create_summary_md"])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
