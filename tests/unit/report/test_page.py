"""The page of a report contains everything that it shows."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from margin_cache.report.data import ReportData, StageCosts
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


def test_figures_are_embedded_in_the_page(data: ReportData):
    page = Page(page_text(data, FIGURES, []))
    assert page.open == []
    images = [link for link in page.references if link.startswith("data:image/png;base64,")]
    assert images == ["data:image/png;base64,cG5n"] * 2
    others = set(page.references) - set(images)
    assert others == {"data:,", "a.svg", "a.png", "b.svg", "b.png"}
    assert "Title of a" in page.text and "Title of b" in page.text


def test_the_page_has_numbers_parameters_and_versions(data: ReportData):
    page = Page(page_text(data, [], []))
    rows, files = int(data.margin_rows.sum()), int((data.margin_bytes > 0).sum())
    assert f"of 3600 arcsec with {rows:,} rows in {files} files," in page.text
    assert f"The catalog has {int(data.primary_rows.sum()):,} rows in" in page.text
    assert "margin_threshold 3600.0" in page.text
    assert f"pyarrow {data.versions['pyarrow']}" in page.text
    most = int(np.argmax(data.margin_rows))
    first = page.text.partition("rows of the partition ")[2]
    assert first.startswith(f"{data.orders[most]} {data.pixels[most]} {data.margin_rows[most]:,} ")
    assert "Audit" not in page.text and "Time and memory" not in page.text


def test_the_page_has_costs_and_an_audit_if_there_are_any(data: ReportData):
    jobs = np.array([1.25, 2.5])
    costs = [StageCosts("Mapping", jobs, 2 * jobs, 100 * jobs)]
    audited = replace(data, audit={"verdict": "3 rows <missing>", "missing": 3})
    page = Page(page_text(audited, [], costs))
    assert "Mapping 2 3.8 7.5 250" in page.text
    assert "Audit 3 rows <missing> verdict 3 rows <missing> missing 3" in page.text


def test_an_audit_without_verdict_is_shown_as_a_table(data: ReportData):
    page = Page(page_text(replace(data, audit={"ok": True}), [], []))
    assert "Audit ok True" in page.text


def test_names_are_escaped(data: ReportData):
    text = page_text(replace(data, name="<script>x</script>"), [], [])
    assert "<script>" not in text
