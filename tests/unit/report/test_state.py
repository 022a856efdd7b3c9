"""A report is current until its margin or its audit changes."""

from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import PROVENANCE
from margin_cache.report.state import check_apart, check_place, is_current, state_of
from margin_cache.storage.files import write_json


def test_a_report_is_current_until_something_changes(margin: Margin, tmp_path: Path):
    moved = replace(margin, settings=replace(margin.settings, output_path=str(tmp_path)))
    files = moved.files
    files.output_dir.mkdir()
    files.report_dir.mkdir()
    (files.output_dir / PROVENANCE).write_text("{}")
    assert not is_current(moved)
    write_json(files.report_state, state_of(moved))
    assert not is_current(moved)
    files.report_page.touch()
    assert is_current(moved)
    files.audit_file.parent.mkdir()
    files.audit_file.write_text("{}")
    assert not is_current(moved)
    write_json(files.report_state, state_of(moved))
    assert is_current(moved)
    (files.output_dir / PROVENANCE).write_text('{"other": 1}')
    assert not is_current(moved)


def test_a_page_of_somebody_else_is_not_replaced(margin: Margin, tmp_path: Path):
    moved = replace(margin, settings=replace(margin.settings, output_path=str(tmp_path)))
    check_place(moved)
    moved.files.report_dir.mkdir()
    moved.files.report_page.touch()
    with pytest.raises(MarginCacheError, match=r"/index.html is not a report of this workflow"):
        check_place(moved)
    (moved.files.report_dir / "report.log").touch()
    check_place(moved)


def test_two_margins_of_one_name_at_urls_have_no_report_in_one_directory(margin: Margin):
    one, two = (
        replace(
            margin,
            settings=replace(margin.settings, output_path=f"s3://bucket/{place}"),
            listing_dir=f"listings/{place}",
        )
        for place in ("a", "b")
    )
    check_apart([one])
    check_apart([margin, one, one])
    with pytest.raises(MarginCacheError, match=r"/a/(\S+) and s3://bucket/b/\1 would both be"):
        check_apart([one, two])
