"""hats makes further files of a margin, in a process of its own; its errors are one line."""

from pathlib import Path

import pytest
from margin_cache.catalog.optional_files import OPTIONAL_FILES, make_optional_files
from margin_cache.config.model import MarginSettings, Table, given_keys
from margin_cache.errors import MarginCacheError


def test_there_is_a_file_for_each_key_that_asks_for_one() -> None:
    settings = MarginSettings(**{key: True for key in OPTIONAL_FILES})
    assert given_keys(settings, Table.HATS) == list(OPTIONAL_FILES)


def test_nothing_is_made_if_nothing_is_asked_for(tmp_path: Path) -> None:
    assert make_optional_files(tmp_path / "nowhere", "margin", []) == []


def test_what_hats_says_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        MarginCacheError,
        match=r"^create_summary_md: hats cannot make README.md of this margin \(.+\)\. Remove",
    ) as caught:
        make_optional_files(tmp_path, "margin", ["create_summary_md"])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
