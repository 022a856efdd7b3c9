"""A browser shows the page of a report: every figure, and no error."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from margin_cache.margin.paths import FIGURES
from support.demo_reports import make_demo_reports
from support.once import once

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

# Writes the widths of all images into the document when they are loaded.
LOOK = """<script>window.addEventListener("load", () => {
    document.body.dataset.widths = [...document.images].map(image => image.naturalWidth).join();
});</script>"""


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """The document that a browser makes of a page, and its console messages."""
    if BROWSER is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no chromium")
        pytest.skip("there is no chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    finished = subprocess.run(
        [BROWSER, *options, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
    )
    messages = [line for line in finished.stderr.splitlines() if "CONSOLE" in line]
    return finished.stdout, "\n".join(messages)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = once(tmp_path_factory, "demo_reports", make_demo_reports)
    return directory / "results/hipparcos_600arcs_report/index.html"


def with_script(page: Path, script: str) -> Path:
    """A copy of the page with a script at its end."""
    copy = page.with_name("looked_at.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    return copy


def test_every_figure_is_shown_without_console_messages(page: Path, tmp_path: Path):
    document, messages = browse(with_script(page, LOOK), tmp_path)
    widths = re.search(r'data-widths="([\d,]*)"', document)[1].split(",")
    assert len(widths) == len(FIGURES)
    assert min(map(int, widths)) > 1000
    assert messages == ""


def test_an_error_on_the_console_would_be_noticed(page: Path, tmp_path: Path):
    _, messages = browse(with_script(page, "<script>unknown()</script>"), tmp_path)
    assert "unknown is not defined" in messages
