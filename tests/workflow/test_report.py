"""`snakemake report` draws a margin's report, and Snakemake's own report shows its figures."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from margin_cache.margin.paths import FIGURES
from support.margins import tree_digest
from support.once import once
from support.paths import ROOT
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow, write_config

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

# Writes the widths of all images into the document when they are loaded, and fails.
LOOK = """<script>window.addEventListener("load", () => {
    document.body.dataset.widths = [...document.images].map(image => image.naturalWidth).join();
    unknown();
});</script>"""

NOTHING = "Nothing to be done"
DATA = ROOT / "tests/data/hipscat_import"
REPORT = Path("results/sky_600arcs_report")
MARGIN = Path("results/sky_600arcs")


def make_report(directory: Path) -> None:
    catalog = small_catalog(directory / "sky", rows=600, max_rows=100)
    config = {"input_catalog_path": catalog, "margin_threshold": 600.0, "partitions_per_job": 4}
    run = run_workflow(directory / "run", "report", config=config, check=True)
    assert f"report: {REPORT}/index.html" in run.stdout.splitlines()


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `snakemake report` has made a margin and its report."""
    return once(tmp_path_factory, "reported", make_report) / "run"


@pytest.fixture
def reported(made: Path, tmp_path: Path) -> Path:
    """A copy of that directory."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def figures_of(directory: Path) -> dict[str, str]:
    digests = tree_digest(directory / REPORT)
    return {name: digest for name, digest in digests.items() if name.endswith("png")}


def test_margin_and_report_are_made_once_and_snakemakes_own_report_shows_them(reported: Path):
    assert (reported / MARGIN / "partition_info.csv").exists()
    pictures = {f"{name}.png" for name in FIGURES}
    assert set(tree_digest(reported / REPORT)) == {*("index.html", "report.log", *pictures)}
    page = (reported / REPORT / "index.html").read_text(encoding="utf-8")
    # The jobs have their costs.
    for stage in ("Mapping", "Reducing", "Finishing"):
        assert re.search(rf"<tr><td>{stage}</td>\s<td>\d+</td>", page)
    assert page.count('src="data:image/png;base64,') == len(FIGURES)

    before = tree_digest(reported / "results")
    assert NOTHING in run_workflow(reported, check=True).stdout
    run_workflow(reported, "--report", "report.html", check=True)
    report = (reported / "report.html").read_text(encoding="utf-8")
    for text in (
        "map_partitions",
        "finish_margin",
        "Margin sky_600arcs (not audited)",
        *FIGURES.values(),
    ):
        assert text in report
    summary = run_workflow(reported, "--summary", check=True).stdout
    for word in ("map_partitions", "reduce_margins", "finish_margin", "orders.png"):
        assert word in summary
    pending = [line for line in summary.splitlines() if "update pending" in line]
    assert all("sky_600arcs_report" in line for line in pending)
    assert NOTHING in run_workflow(reported, "-n", check=True).stdout
    assert tree_digest(reported / "results") == before


def test_a_page_is_drawn_again_also_without_intermediate_files(reported: Path):
    margin, figures = tree_digest(reported / MARGIN), figures_of(reported)
    shutil.rmtree(reported / "intermediate")
    dry = run_workflow(reported, "report", "-n", check=True)
    assert re.search(r"(?m)^draw_report +1$", dry.stdout)
    assert "finish_margin" not in dry.stdout
    run = run_workflow(reported, "report", check=True)
    assert f"report: {REPORT}/index.html" in run.stdout.splitlines()
    page = (reported / REPORT / "index.html").read_text(encoding="utf-8")
    assert "Unknown: the benchmark files were deleted." in page
    assert (tree_digest(reported / MARGIN), figures_of(reported)) == (margin, figures)
    # Snakemake's report of a directory that has no intermediate files.
    assert "Adding orders.png" in run_workflow(reported, "--report", "a.html", check=True).stdout
    # A report without its margin: the margin is made again, and then its report.
    shutil.rmtree(reported / MARGIN)
    dry = run_workflow(reported, "report", "-n", check=True)
    assert re.search(r"(?m)^finish_margin +1$", dry.stdout)
    assert re.search(r"(?m)^draw_report +1$", dry.stdout)


def test_delete_all_output_keeps_the_margin(reported: Path):
    before = tree_digest(reported / "results"), tree_digest(reported / "intermediate")
    run_workflow(reported, "--delete-all-output", check=True)
    assert (tree_digest(reported / "results"), tree_digest(reported / "intermediate")) == before


def test_a_margin_of_another_tool_is_checked_and_mended(tmp_path: Path):
    """By the commands of README.md; the report of the new margin has its verdict."""
    shutil.copytree(DATA / "sky", tmp_path / "data/sky")
    shutil.copytree(DATA / "margin", tmp_path / "data/sky_600arcs")
    write_config(
        tmp_path,
        {
            "input_catalog_path": "data/sky",
            "output_path": "data",
            "margin_threshold": 600.0,
            "audit_catalog_path": "data/sky_600arcs",
        },
    )
    run = run_workflow(tmp_path, "audit")
    assert run.returncode != 0
    assert "audit: data/sky_600arcs is UNSAFE" in run.stdout

    mended = run_workflow(tmp_path, "--config", "overwrite=true", check=True)
    assert "data/sky_600arcs: 495 rows in 15 files" in mended.stdout
    run_workflow(tmp_path, "audit", check=True)
    run_workflow(tmp_path, "report", check=True)
    page = tmp_path / "data/sky_600arcs_report/index.html"

    def audit() -> str:
        return page.read_text().partition("<h2>Audit</h2>")[2].strip()

    assert audit().startswith("<p><strong>The margin is clean.</strong>")
    # It has the verdict no longer when the margin has changed.
    next((tmp_path / "data/sky_600arcs").rglob("Npix=*.parquet")).touch()
    dry = run_workflow(tmp_path, "report", "-n", check=True)
    assert re.search(r"(?m)^draw_report +1$", dry.stdout)
    assert audit().startswith("<p><strong>The margin is clean.</strong>")
    run_workflow(tmp_path, "report", check=True)
    assert audit().startswith("<p>Not audited in its present state")


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


def test_a_browser_shows_every_figure_of_a_page_that_was_mailed(made: Path, tmp_path: Path):
    text = (made / REPORT / "index.html").read_text(encoding="utf-8")
    mailed = tmp_path / "mailed.html"
    mailed.write_text(text.replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    document, messages = browse(mailed, tmp_path)
    widths = re.search(r'data-widths="([\d,]*)"', document)[1].split(",")
    assert len(widths) == len(FIGURES)
    assert min(map(int, widths)) > 1000
    # The last message is of the script, and shows that others would be noticed.
    assert "unknown is not defined" in messages and messages.count("CONSOLE") == 1


def test_the_environment_of_the_report_has_the_same_versions():
    def pins(path: str) -> dict[str, str]:
        entries = yaml.safe_load((ROOT / path).read_text())["dependencies"]
        return dict(re.split("=+", entry) for entry in entries if "=" in entry)

    report, whole = pins("workflow/envs/report.yaml"), pins("environment.yml")
    assert {"healpy", "matplotlib", "jinja2"} < report.keys()
    assert {name: whole[name] for name in report} == report
    assert pins("workflow/envs/margin_cache.yaml").items() <= report.items()
