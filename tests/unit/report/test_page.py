"""The page of a report holds all that it shows."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from margin_cache.report.benchmarks import StageCost
from margin_cache.report.contents import ReportData
from margin_cache.report.page import page_text
from margin_cache.report.style import RenderedFigure

FIGURES = [
    RenderedFigure(name, f"Title of {name}", "A caption.", b"png", b"svg") for name in ("a", "b")
]


class Page(HTMLParser):
    """The texts of a page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_figures_are_in_the_page(contents: ReportData):
    page = Page(page_text(contents, FIGURES, []))
    assert page.open == []
    images = [each for each in page.references if each.startswith("data:image/png;base64,")]
    assert images == ["data:image/png;base64,cG5n"] * 2
    others = set(page.references) - set(images)
    assert others == {"data:,", "a.svg", "a.png", "b.svg", "b.png"}
    assert "Title of a" in page.text and "Title of b" in page.text


def test_numbers_parameters_and_versions_are_told(contents: ReportData):
    page = Page(page_text(contents, [], []))
    rows, files = int(contents.margin_rows.sum()), int((contents.margin_bytes > 0).sum())
    assert f"within 3600 arcsec: {rows:,} rows in {files} files of" in page.text
    assert f"of a catalog of {int(contents.primary_rows.sum()):,} rows" in page.text
    assert "margin_threshold 3600.0" in page.text
    assert f"pyarrow {contents.versions['pyarrow']}" in page.text
    most = int(np.argmax(contents.margin_rows))
    first = page.text.partition("rows of the partition ")[2]
    assert first.startswith(
        f"{contents.orders[most]} {contents.pixels[most]} {contents.margin_rows[most]:,} "
    )
    assert "Audit" not in page.text and "have cost" not in page.text


def test_costs_and_an_audit_are_told_if_there_are_any(contents: ReportData):
    jobs = np.array([1.25, 2.5])
    costs = [StageCost("Mapping", jobs, 2 * jobs, 100 * jobs)]
    audited = replace(contents, audit={"verdict": "3 rows <missing>", "missing": 3})
    page = Page(page_text(audited, [], costs))
    assert "Mapping 2 3.8 7.5 250" in page.text
    assert "Audit 3 rows <missing> verdict 3 rows <missing> missing 3" in page.text


def test_an_audit_without_words_is_told_as_it_is(contents: ReportData):
    page = Page(page_text(replace(contents, audit={"ok": True}), [], []))
    assert "Audit ok True" in page.text


def test_names_do_no_harm(contents: ReportData):
    text = page_text(replace(contents, name="<script>x</script>"), [], [])
    assert "<script>" not in text
