"""`snakemake audit` checks margins on disk, and fails if one of them has a defect."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from margin_cache.audit.findings import load_findings
from support.audited_sites import WRITERS, make_site
from support.margins import configuration
from support.once import once
from support.workflow_runs import run_workflow


@pytest.fixture(params=WRITERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site_called(request.param, tmp_path_factory)


@pytest.fixture
def hats_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site_called("hats", tmp_path_factory)


def site_called(name: str, factory: pytest.TempPathFactory) -> Path:
    return once(factory, f"audited_{name}", lambda path: make_site(name, path))


def copy_margin(site: Path, margin: Path, *without: str) -> Path:
    for file in (site / "results/margin").rglob("*"):
        if file.is_file() and file.name not in without:
            target = margin / file.relative_to(site / "results/margin")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return margin


def remove_rows(margin: Path, rows: int) -> Path:
    """Remove the first rows of the largest file."""
    file = max(margin.rglob("Npix=*.parquet"), key=lambda path: pq.read_metadata(path).num_rows)
    pq.write_table(pq.ParquetFile(file).read().slice(rows), file)
    return file


def content_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "audit.json").read_text())


def findings_of(directory: Path) -> dict[Path, int]:
    """The files with the findings of the jobs, and their modification times."""
    files = directory.glob("intermediate/*_audit/*/findings/*.json")
    return {file: file.stat().st_mtime_ns for file in files}


def errors_of(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("error: ")]


def test_an_audit_reports_defects_and_repeats_no_job(hats_site: Path, tmp_path: Path) -> None:
    margin = copy_margin(hats_site, tmp_path / "anyones")
    config = {
        "input_catalog_path": hats_site / "sky",
        "audit_catalog_path": margin,
        "partitions_per_job": 8,
    }
    run = run_workflow(tmp_path, "audit", config=config, check=True)
    found = tmp_path / "results/anyones_audit"
    assert f"audit: {margin}: nothing wrong; see " in run.stdout
    assert content_of(found)["verdict"] == "clean"
    assert not (tmp_path / "results/sky_5arcs").exists()
    files = findings_of(tmp_path)
    assert len(files) > 1
    whole = load_findings(files)
    assert whole.candidates == len(whole.pixels) == len({result.pixel for result in whole.pixels})
    run = run_workflow(tmp_path, "audit", config=config, check=True)
    assert f"audit: {margin}: nothing wrong; see " in run.stdout
    assert findings_of(tmp_path) == files

    remove_rows(margin, 2)
    for _ in range(2):  # the error is reported each time
        run = run_workflow(tmp_path, "audit", config=config)
        assert run.returncode != 0
        assert errors_of(run.stdout)[-1].startswith(f"error: {margin}: 2 missing")
        content = content_of(found)
        assert content["verdict"] == "faulty"
        assert sum(len(pixel["missing"]) for pixel in content["pixels"]) == 2
        assert len(findings_of(tmp_path)) == 2 * len(files)


def test_an_interrupted_audit_is_continued(hats_site: Path, tmp_path: Path) -> None:
    margin = copy_margin(hats_site, tmp_path / "margin")
    config = {
        "input_catalog_path": hats_site / "sky",
        "audit_catalog_path": margin,
        "partitions_per_job": 8,
    }
    run_workflow(tmp_path, "audit", "--until", "audit_pixels", config=config, check=True)
    kept, *lost = sorted(findings_of(tmp_path))
    before = findings_of(tmp_path)[kept]
    for file in lost:
        file.unlink()
    (lost[0].parent / f".{lost[0].name}.1234.tmp").write_text("half")
    run = run_workflow(tmp_path, "audit", config=config, check=True)
    assert "nothing wrong" in run.stdout
    assert findings_of(tmp_path).keys() == {kept, *lost}
    assert findings_of(tmp_path)[kept] == before


def test_a_change_during_an_audit_is_an_error(hats_site: Path, tmp_path: Path) -> None:
    margin = copy_margin(hats_site, tmp_path / "margin")
    config = {"input_catalog_path": hats_site / "sky", "audit_catalog_path": margin}
    run_workflow(tmp_path, "audit", "--until", "audit_pixels", config=config, check=True)
    (request,) = tmp_path.glob("intermediate/margin_audit/*/request.json")
    values = json.loads(request.read_text())
    request.write_text(json.dumps({**values, "state": "of another time"}))
    run = run_workflow(tmp_path, "audit")
    assert run.returncode != 0
    assert "changed during the audit. Start the audit again." in errors_of(run.stdout)[-1]


def test_several_margins_are_audited_in_one_run(
    hats_site: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    hipscat_site = site_called("hipscat", tmp_path_factory)
    bad = copy_margin(hats_site, tmp_path / "bad")
    good = copy_margin(hipscat_site, tmp_path / "results/good", "provenance_info.json")
    remove_rows(bad, 3)
    entries = [
        {
            "input_catalog_path": str(hipscat_site / "sky"),
            "output_artifact_name": "good",
            "audit_catalog_path": str(good),
        },
        {
            "input_catalog_path": str(hats_site / "sky"),
            "output_artifact_name": "other",
            "audit_catalog_path": str(bad),
        },
    ]
    run = run_workflow(tmp_path, "audit", config={"margins": entries})
    assert run.returncode != 0
    assert errors_of(run.stdout)[-1].startswith(f"error: {bad}: 3 missing")
    assert f"{good}: nothing wrong" in run.stdout
    assert content_of(tmp_path / "results/good_audit")["verdict"] == "clean"
    assert content_of(tmp_path / "results/bad_audit")["counts"]["missing"] == 3
    entries[1]["audit_catalog_path"] = str(good)
    run = run_workflow(tmp_path, "audit", config={"margins": entries})
    assert "error: output_path: two audits would be written into results/good_audit" in run.stdout


def test_a_margin_of_another_tool_is_audited_in_our_output_path(site: Path, tmp_path: Path) -> None:
    copy_margin(site, tmp_path / "results/sky_5arcs", "provenance_info.json")
    config = {"input_catalog_path": site / "sky", "audit_catalog_path": "results/sky_5arcs"}
    run = run_workflow(tmp_path, "audit", config=config, check=True)
    assert "results/sky_5arcs: nothing wrong" in run.stdout
    assert (tmp_path / "results/sky_5arcs_audit/beyond.png").exists()


def test_the_configured_margin_is_audited_by_a_sample(hats_site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(hats_site, copy)
    config = configuration(Path("sky"), margin_threshold=600.0, audit_fraction=0.5, audit_seed=1)
    run = run_workflow(copy, "audit", config=config, check=True)
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("audit: ")]
    assert "margin: nothing wrong; in a sample of " in line
    assert "(rule of three); see " in line
    sample = content_of(copy / "results/margin_audit")["sample"]
    assert 0 < sample["pixels"] < sample["of"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (
            "",
            "error: audit_catalog_path: results/sky_5arcs is not a directory; make it first, or",
        ),
        ([1], "error: audit_catalog_path: "),
        ("nowhere", "error: audit_catalog_path: nowhere is not a directory; give the margin"),
        ("nothing", "nothing: cannot be opened as a HATS catalog"),
    ],
)
def test_an_audit_of_no_margin_is_refused_in_one_line(
    hats_site: Path, tmp_path: Path, path: object, line: str
) -> None:
    (tmp_path / "nothing").mkdir()
    config = {"input_catalog_path": hats_site / "sky", "audit_catalog_path": path}
    run = run_workflow(tmp_path, "audit", config=config)
    assert run.returncode != 0
    assert line in run.stdout
    assert "Traceback" not in run.stdout
