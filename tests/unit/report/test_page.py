"""The page of a report contains everything that it shows."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from margin_cache.figures.style import RenderedFigure
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import FIGURES
from margin_cache.report.data import ReportData, StageCosts, is_current
from margin_cache.report.page import page_text, write_report


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


def test_page_and_figures_are_written(margin: Margin):
    write_report(margin)
    assert {path.name for path in margin.files.report_dir.iterdir()} == {
        *("index.html", "made_from.json"),
        *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")),
    }
    page = Page(margin.files.report_page.read_text(encoding="utf-8"))
    assert len([link for link in page.references if link.startswith("data:image/png")]) == 5
    for title in FIGURES.values():
        assert title in page.text
    assert "Time and memory of the stages Unknown: the benchmark files were deleted." in page.text
    assert is_current(margin)


def test_the_page_refers_to_no_other_file(data: ReportData):
    figures = [RenderedFigure(name, name, "A caption.", b"png", b"svg") for name in ("a", "b")]
    page = Page(page_text(data, figures, []))
    assert page.open == []
    assert page.references == ["data:,", *["data:image/png;base64,cG5n"] * 2]


def test_the_page_has_numbers_parameters_and_versions(data: ReportData):
    page = Page(page_text(data, [], []))
    rows, files = int(data.margin_rows.sum()), int((data.margin_bytes > 0).sum())
    assert f"of 3600 arcsec with {rows:,} rows in {files} files," in page.text
    assert f"The catalog has {int(data.primary_rows.sum()):,} rows in" in page.text
    assert f"made on {data.date}, this report on 2" in page.text
    assert data.open_command in page.text
    changed, _, others = page.text.partition("Other parameters, and versions")
    assert "margin_threshold 3600.0" in changed and "margin_order" not in changed
    assert "margin_order -1 fine_filtering true debug_filter_pixel_list []" in others
    assert 'npix_parquet_name "" ' in others
    assert f"pyarrow {data.versions['pyarrow']}" in others
    most = int(np.argmax(data.margin_rows))
    first = page.text.partition("rows of the partition ")[2]
    assert first.startswith(f"{data.orders[most]} {data.pixels[most]} {data.margin_rows[most]:,} ")
    assert "coarse" not in page.text
    coarse = Page(page_text(replace(data, cell_order=9), [], []))
    assert "in the cells of order 9 that touch a pixel" in coarse.text


def test_the_page_has_costs_and_an_audit_if_there_are_any(data: ReportData):
    jobs = np.array([1.25, 2.5])
    costs = [StageCosts("Mapping", jobs, 2 * jobs, 100 * jobs)]
    audited = replace(data, audit={"verdict": "3 rows <missing>", "missing": 3})
    page = Page(page_text(audited, [], costs))
    assert "Time and memory of the jobs" in page.text
    assert "Mapping 2 3.8 7.5 250" in page.text
    assert "Audit verdict 3 rows <missing> missing 3" in page.text


def test_an_audit_without_verdict_is_shown_as_a_table(data: ReportData):
    page = Page(page_text(replace(data, audit={"ok": True}), [], []))
    assert "Audit ok true" in page.text


def test_names_are_escaped(data: ReportData):
    text = page_text(replace(data, name="<script>x</script>"), [], [])
    assert "<script>" not in text
