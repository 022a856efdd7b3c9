"""A report is a page and its figures, as files."""

from margin_cache.margin.model import Margin
from margin_cache.margin.paths import FIGURES
from margin_cache.report.data import is_current
from margin_cache.report.write import write_report


def test_page_and_figures_are_written(margin: Margin):
    figures = write_report(margin)
    assert tuple(figure.name for figure in figures) == FIGURES
    there = {path.name for path in margin.files.report_dir.iterdir()}
    assert there == {
        "index.html",
        "made_from.json",
        *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")),
    }
    page = margin.files.report_page.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(FIGURES)
    assert is_current(margin)
