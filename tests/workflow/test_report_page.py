"""A browser shows the page of a report: every figure, and no error."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from margin_cache.margin.paths import FIGURES
from support.paths import ROOT
from support.workflow_runs import run_workflow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

# Says how wide each picture is, once all are there.
LOOK = """<script>window.addEventListener("load", () => {
    document.body.dataset.widths = [...document.images].map(each => each.naturalWidth).join();
});</script>"""


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """What a browser makes of a page, and what it says on its console."""
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
    said = [line for line in finished.stderr.splitlines() if "CONSOLE" in line]
    return finished.stdout, "\n".join(said)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page")
    config = {"input_catalog_path": ROOT / "demo/hipparcos", "margin_threshold": 600.0}
    run_workflow(directory, "report", config=config, check=True)
    return directory / "results/hipparcos_600arcs_report/index.html"


def with_script(page: Path, script: str) -> Path:
    """The page beside itself, with a script at its end."""
    copy = page.with_name("looked_at.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    return copy


def test_every_figure_is_shown_and_nothing_is_said(page: Path, tmp_path: Path):
    document, said = browse(with_script(page, LOOK), tmp_path)
    widths = re.search(r'data-widths="([\d,]*)"', document)[1].split(",")
    assert len(widths) == len(FIGURES)
    assert min(map(int, widths)) > 1000
    assert said == ""


def test_an_error_on_the_console_would_be_seen(page: Path, tmp_path: Path):
    _, said = browse(with_script(page, "<script>unknown()</script>"), tmp_path)
    assert "unknown is not defined" in said
