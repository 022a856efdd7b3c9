"""Reports of the margins of both demo catalogs, made by one run."""

from pathlib import Path

from support.paths import ROOT
from support.workflow_runs import run_workflow


def make_demo_reports(directory: Path) -> None:
    margins = [
        {"input_catalog_path": f"{ROOT}/demo/hipparcos", "margin_threshold": 600.0},
        {"input_catalog_path": f"{ROOT}/demo/hipparcos_hats"},
    ]
    run_workflow(directory, "report", config={"margins": margins}, check=True)
