"""`snakemake report` draws a margin's report, and Snakemake's own report shows its figures."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from margin_cache.margin.paths import FIGURES
from support.demo_reports import make_demo_reports
from support.margins import tree_digest
from support.once import once
from support.paths import ROOT
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

NOTHING = "Nothing to be done"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `snakemake report` has made a margin and its report."""
    directory = tmp_path_factory.mktemp("report")
    catalog = small_catalog(directory / "sky", rows=600, max_rows=100)
    config = {"input_catalog_path": catalog, "margin_threshold": 600.0, "partitions_per_job": 4}
    run = run_workflow(directory / "run", "report", config=config, check=True)
    assert "report: results/sky_600arcs_report/index.html" in run.stdout.splitlines()
    return directory / "run"


def report_files(directory: Path) -> set[str]:
    return {path.name for path in (directory / "results/sky_600arcs_report").iterdir()}


def test_margin_and_report_are_made(reported: Path):
    assert (reported / "results/sky_600arcs/partition_info.csv").exists()
    pictures = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert report_files(reported) == {"index.html", "made_from.json", "report.log", *pictures}
    page = (reported / "results/sky_600arcs_report/index.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == len(FIGURES)
    references = set(re.findall(r'(?:src|href)="([^"]*)"', page))
    assert {link for link in references if not link.startswith("data:")} == pictures
    # Each stage has its costs.
    for stage in ("Mapping", "Reducing", "Finishing"):
        assert re.search(rf"<tr><td>{stage}</td>\s<td class=\"number\">\d+</td>", page)


def test_a_deleted_margin_is_made_again_even_if_its_report_exists(reported: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(reported, copy)
    shutil.rmtree(copy / "results/sky_600arcs")
    run_workflow(copy, "report", check=True)
    assert (
        tree_digest(copy / "results/sky_600arcs").keys()
        == tree_digest(reported / "results/sky_600arcs").keys()
    )


def test_a_report_is_drawn_again_only_after_a_change_of_margin_or_audit(reported: Path):
    before = tree_digest(reported / "results/sky_600arcs_report")
    for target in ([], ["report"], ["all"]):
        assert NOTHING in run_workflow(reported, *target, check=True).stdout
    audit = reported / "results/sky_600arcs_audit/audit.json"
    audit.parent.mkdir()
    audit.write_text(json.dumps({"verdict": "3 rows are missing"}))
    run = run_workflow(reported, "report", check=True)
    assert "Drawing the report of sky_600arcs" in run.stdout
    assert "3 rows are missing" in (reported / "results/sky_600arcs_report/index.html").read_text()
    shutil.rmtree(audit.parent)
    run_workflow(reported, "report", check=True)
    assert NOTHING in run_workflow(reported, "report", check=True).stdout
    after = tree_digest(reported / "results/sky_600arcs_report")
    for changing in ("report.log", "made_from.json"):
        before.pop(changing), after.pop(changing)
    assert after == before


def test_snakemakes_own_report_shows_the_figures_and_all_jobs(reported: Path):
    before = tree_digest(reported / "results")
    run = run_workflow(reported, "--report", "report.html", check=True)
    for name in FIGURES:
        assert f"Adding {name}.png" in run.stdout
    page = (reported / "report.html").read_text(encoding="utf-8")
    for rule in ("map_partitions", "reduce_margins", "finish_margin", "draw_report"):
        assert rule in page
    summary = run_workflow(reported, "--summary", check=True).stdout
    for word in ("map_partitions", "reduce_margins", "finish_margin", "orders.png"):
        assert word in summary
    pending = [line for line in summary.splitlines() if "update pending" in line]
    assert all("sky_600arcs_report" in line for line in pending)
    assert tree_digest(reported / "results") == before


def test_a_report_is_redrawn_after_its_page_was_deleted(reported: Path):
    margin = tree_digest(reported / "results/sky_600arcs")
    (reported / "results/sky_600arcs_report/index.html").unlink()
    dry = run_workflow(reported, "report", "-n", check=True)
    assert re.search(r"(?m)^draw_report +1$", dry.stdout)
    assert "finish_margin" not in dry.stdout
    run = run_workflow(reported, "report", check=True)
    assert "report: results/sky_600arcs_report/index.html" in run.stdout.splitlines()
    assert tree_digest(reported / "results/sky_600arcs") == margin
    assert NOTHING in run_workflow(reported, "report", check=True).stdout


def test_a_dry_run_or_summary_adds_no_job(reported: Path):
    assert NOTHING in run_workflow(reported, "-n", check=True).stdout
    run_workflow(reported, "--summary", check=True)
    assert NOTHING in run_workflow(reported, check=True).stdout


def test_delete_all_output_keeps_the_margin(reported: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(reported, copy)
    before = tree_digest(copy / "results"), tree_digest(copy / "intermediate")
    run_workflow(copy, "--delete-all-output", check=True)
    assert (tree_digest(copy / "results"), tree_digest(copy / "intermediate")) == before


def test_without_intermediate_files_costs_are_unknown(reported: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(reported, copy)
    shutil.rmtree(copy / "intermediate")
    shutil.rmtree(copy / "results/sky_600arcs_report")
    empty = run_workflow(copy, "--report", "empty.html", check=True)
    assert "Adding" not in empty.stdout
    margin = tree_digest(copy / "results/sky_600arcs")
    run_workflow(copy, "report", check=True)
    assert tree_digest(copy / "results/sky_600arcs") == margin
    page = (copy / "results/sky_600arcs_report/index.html").read_text(encoding="utf-8")
    assert "Unknown: the benchmark files were deleted." in page
    assert "Adding orders.png" in run_workflow(copy, "--report", "full.html", check=True).stdout


def test_reports_of_several_margins_of_both_formats(tmp_path_factory: pytest.TempPathFactory):
    results = once(tmp_path_factory, "demo_reports", make_demo_reports) / "results"
    for name in ("hipparcos_600arcs_report", "hipparcos_hats_5arcs_report"):
        assert (results / name / "partition.png").stat().st_size > 10_000


def test_the_environment_of_the_report_has_the_same_versions():
    def pins(path: str) -> dict[str, str]:
        entries = yaml.safe_load((ROOT / path).read_text())["dependencies"]
        return dict(re.split("=+", entry) for entry in entries if "=" in entry)

    report, whole = pins("workflow/envs/report.yaml"), pins("environment.yml")
    assert {"healpy", "matplotlib", "jinja2"} < report.keys()
    assert {name: whole[name] for name in report} == report
    assert pins("workflow/envs/margin_cache.yaml").items() <= report.items()
