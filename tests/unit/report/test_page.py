"""The page of a report contains everything that it shows."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import FIGURES
from margin_cache.report import page
from margin_cache.report.data import ReportData, StageCosts, read_report_data
from margin_cache.report.page import RenderedFigure, page_text, write_report

FIGURE = RenderedFigure("name", "A title", "A caption.", b"png")


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


def remove_rows(margin: Margin, rows: int) -> None:
    """Remove the first rows of a file."""
    file = next(margin.files.output_dir.rglob("Npix=*.parquet"))
    pq.write_table(pq.ParquetFile(file).read().slice(rows), file)


def test_page_and_figures_are_written(margin: Margin):
    write_report(margin)
    assert {path.name for path in margin.files.report_dir.iterdir()} == {
        "index.html",
        *(f"{name}.png" for name in FIGURES),
    }
    shown = Page(margin.files.report_page.read_text(encoding="utf-8"))
    assert len([link for link in shown.references if link.startswith("data:image/png")]) == 4
    for title in FIGURES.values():
        assert title in shown.text
    assert "Time and memory of the stages Unknown: the benchmark files were deleted." in shown.text


def test_the_page_refers_to_no_other_file(data: ReportData):
    shown = Page(page_text(data, [FIGURE] * 2, []))
    assert shown.open == []
    assert shown.references == ["data:,", *["data:image/png;base64,cG5n"] * 2]


def test_the_page_has_numbers_parameters_and_versions(data: ReportData):
    shown = Page(page_text(data, [], []))
    rows, files = int(data.margin_rows.sum()), int((data.margin_bytes > 0).sum())
    assert f"of 3600 arcsec with {rows:,} rows in {files} files," in shown.text
    assert f"The catalog has {int(data.primary_rows.sum()):,} rows in" in shown.text
    outside = int((data.is_negative & (data.margin_bytes > 0)).sum())
    assert f"The margin has {outside} files of pixels outside the catalog." in shown.text
    assert f"made on {data.date}, this report on 2" in shown.text
    assert data.open_command in shown.text
    changed, _, others = shown.text.partition("Other parameters, and versions")
    assert "margin_threshold 3600.0" in changed and "margin_order" not in changed
    assert "margin_order -1 fine_filtering true debug_filter_pixel_list []" in others
    assert 'npix_parquet_name "" ' in others
    assert f"pyarrow {data.versions['pyarrow']}" in others
    most = int(np.argmax(data.margin_rows))
    first = shown.text.partition("rows of the partition ")[2]
    assert first.startswith(f"{data.orders[most]} {data.pixels[most]} {data.margin_rows[most]:,} ")
    assert "coarse" not in shown.text
    coarse = Page(page_text(replace(data, cell_order=9), [], []))
    assert "in the cells of order 9 that touch a pixel" in coarse.text


def test_the_page_has_costs_if_there_are_any(data: ReportData):
    costs = [StageCosts("Mapping", 2, 3.75, 7.5, 250.0), StageCosts("Reducing", 1, 1, 1, None)]
    shown = Page(page_text(data, [], costs))
    assert "Mapping 2 3.8 7.5 250 Reducing 1 1.0 1.0 unknown" in shown.text
    assert "memory of very short jobs is unknown, or measured too low" in shown.text


def test_one_row_in_one_file_is_singular_and_none_has_no_table(data: ReportData):
    rows = np.zeros_like(data.margin_rows)
    empty = Page(page_text(replace(data, margin_rows=rows, margin_bytes=rows), [], []))
    assert "with 0 rows in 0 files," in empty.text and "largest files" not in empty.text
    rows[np.argmin(data.is_negative)] = 1
    one = Page(page_text(replace(data, margin_rows=rows, margin_bytes=rows), [], []))
    assert "with 1 row in 1 file," in one.text and "largest files" in one.text


def test_the_page_tells_what_an_audit_found_and_looked_at(
    copied: Margin, audit: Callable[..., None]
):
    def text() -> str:
        return Page(page_text(read_report_data(copied), [], [])).text.partition(" Audit ")[2]

    where = copied.files.audit_file.parent
    unaudited = f"Not audited in its present state: there is no such audit in {where}. Time"
    assert text().startswith(unaudited)
    audit(copied)
    now = f"{datetime.now(UTC):%Y-%m-%d}"
    assert text().startswith(f"The margin is clean. The audit of {now} ")
    assert f"compared the margin as it is now with {copied.settings.input_catalog_path}." in text()
    assert "threshold: 3600 arcsec checked: all 15 pixels that can have margin rows T" in text()

    remove_rows(copied, 2)
    assert text().startswith(unaudited)
    audit(copied)
    assert text().startswith("The margin is unsafe: a crossmatch with it can be wrong. The audit")
    assert (
        "Kind rows pixels meaning "
        "missing 2 1 unsafe: rows within the threshold that the margin lacks "
        "metadata "
    ) in text()
    audit(copied, fraction=0.5)
    assert re.search(r"checked: a sample of \d of 15 pixels \(seed 0\)", text())


def test_the_map_of_an_audit_is_shown_if_it_found_something(
    copied: Margin, audit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    # They take their time.
    monkeypatch.setattr(page, "draw_maps", lambda data: [FIGURE])
    monkeypatch.setattr(page, "draw_histograms", lambda data: FIGURE)
    audit(copied)
    write_report(copied)
    title = "Where the audit found defects"
    caption = "The margin is unsafe: a crossmatch with it can be wrong. Left: defects by which"
    assert title not in copied.files.report_page.read_text()
    remove_rows(copied, 1)
    audit(copied)
    write_report(copied)
    assert title in copied.files.report_page.read_text()
    assert caption in copied.files.report_page.read_text()


def test_names_are_escaped(data: ReportData):
    text = page_text(replace(data, name="<script>x</script>"), [], [])
    assert "<script>" not in text
