"""A finished margin, for the tests of its report, and audits of copies of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.audit.findings import write_audit
from margin_cache.audit.request import AuditRequest, catalogs_states
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.prepare import prepare_margins
from margin_cache.report.data import ReportData, read_report_data
from support.audits import audit_margin
from support.small_skies import small_catalog
from support.stages import run_map_jobs, run_reduce_jobs


@pytest.fixture(scope="session")
def margin(tmp_path_factory: pytest.TempPathFactory) -> Margin:
    directory = tmp_path_factory.mktemp("report")
    catalog = small_catalog(directory / "sky", rows=3000, max_rows=300)
    config = {
        "input_catalog_path": str(catalog),
        "output_path": str(directory / "out"),
        "tmp_dir": str(directory / "tmp"),
        "margin_threshold": 3600.0,
    }
    (made,) = prepare_margins(settings_of_margins(config))
    save_margin(made)
    run_map_jobs(made)
    run_reduce_jobs(made)
    finish_margin(made)
    return made


@pytest.fixture(scope="session")
def data(margin: Margin) -> ReportData:
    return read_report_data(margin)


@pytest.fixture
def copied(margin: Margin, tmp_path: Path) -> Margin:
    """A copy of the margin in another output directory."""
    copy = replace(margin, settings=replace(margin.settings, output_path=str(tmp_path)))
    shutil.copytree(margin.files.output_dir, copy.files.output_dir)
    return copy


@pytest.fixture
def audit() -> Callable[..., None]:
    """A function that audits a margin, and writes the results where an audit does."""

    def write(margin: Margin, fraction: float = 1.0) -> None:
        catalog, audited = margin.settings.input_catalog_path, str(margin.files.output_dir)
        results = margin.files.audit_file.parent
        states = catalogs_states(catalog, audited)
        request = AuditRequest(catalog, audited, str(results), fraction=fraction, states=states)
        write_audit(audit_margin(request), request, results)

    return write
