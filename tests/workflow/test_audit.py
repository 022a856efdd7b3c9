"""`snakemake audit` checks a margin on disk, and fails if anything is wrong with it."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.audited_sites import WRITERS, make_site
from support.once import once
from support.workflow_runs import run_workflow


@pytest.fixture(params=WRITERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = request.param
    return once(tmp_path_factory, f"audited_{name}", lambda path: make_site(name, path))


def test_an_audit_says_what_it_finds(site: Path, tmp_path: Path) -> None:
    margin = tmp_path / "anyones"
    for file in (site / "results/margin").rglob("*"):
        if file.is_file():
            target = margin / file.relative_to(site / "results/margin")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    config = {"input_catalog_path": site / "sky", "audit_catalog_path": margin}
    run = run_workflow(tmp_path, "audit", config=config, check=True)
    found = tmp_path / "results/anyones_audit"
    assert f"{margin}: nothing wrong" in run.stdout
    assert json.loads((found / "audit.json").read_text())["verdict"] == "clean"
    assert not (tmp_path / "results/sky_5arcs").exists()

    file = max(margin.rglob("Npix=*.parquet"), key=lambda path: pq.read_metadata(path).num_rows)
    pq.write_table(pq.ParquetFile(file).read().slice(2), file)
    run = run_workflow(tmp_path, "audit", config=config)
    assert run.returncode != 0
    errors = [line for line in run.stdout.splitlines() if line.startswith("error: ")]
    assert errors[-1].startswith(f"error: {margin}: 2 missing")
    content = json.loads((found / "audit.json").read_text())
    assert content["verdict"] == "faulty"
    assert sum(len(pixel["missing"]) for pixel in content["pixels"]) == 2


def test_a_margin_of_another_tool_is_audited_where_ours_would_be(
    site: Path, tmp_path: Path
) -> None:
    margin = tmp_path / "results/sky_5arcs"
    for file in (site / "results/margin").rglob("*"):
        if file.is_file() and file.name != "provenance_info.json":
            target = margin / file.relative_to(site / "results/margin")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    config = {"input_catalog_path": site / "sky", "audit_catalog_path": "results/sky_5arcs"}
    run = run_workflow(tmp_path, "audit", config=config, check=True)
    assert "results/sky_5arcs: nothing wrong" in run.stdout
    assert (tmp_path / "results/sky_5arcs_audit/false.png").exists()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", "error: audit_catalog_path: name the margin that is to be checked"),
        ([1], "error: audit_catalog_path: "),
        ("nowhere", "its official reader fails"),
    ],
)
def test_an_audit_of_nothing_is_refused_by_a_line(
    site: Path, tmp_path: Path, path: object, line: str
) -> None:
    config = {"input_catalog_path": site / "sky", "audit_catalog_path": path}
    run = run_workflow(tmp_path, "audit", config=config)
    assert run.returncode != 0
    assert line in run.stdout
    assert "Traceback" not in run.stdout
