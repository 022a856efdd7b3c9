"""The data of a report equal the files; an audit counts until its margin changes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import PlanFiles
from margin_cache.report.data import (
    ReportData,
    StageCosts,
    read_costs,
    read_report_data,
)

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def rows_of(directory: Path) -> dict[tuple[int, int], int]:
    """Rows of the files below a directory, by order and pixel."""
    return {
        (int(path.parts[-3].partition("=")[2]), int(path.stem.partition("=")[2])): len(
            pd.read_parquet(path)
        )
        for path in directory.rglob("Npix=*.parquet")
    }


def test_numbers_of_rows_equal_the_files(margin: Margin, data: ReportData):
    pixels = list(zip(data.orders.tolist(), data.pixels.tolist()))
    made = {pixel: rows for pixel, rows in zip(pixels, data.margin_rows.tolist()) if rows}
    assert made == rows_of(margin.files.output_dir) and sum(made.values()) > 100
    own = rows_of(Path(margin.settings.input_catalog_path))
    assert {
        pixel: rows
        for pixel, rows, negative in zip(pixels, data.primary_rows.tolist(), data.is_negative)
        if not negative
    } == own
    sizes = {path.stat().st_size for path in margin.files.output_dir.rglob("Npix=*.parquet")}
    assert set(data.margin_bytes.tolist()) - {0} == sizes


def test_parameters_and_versions_equal_the_provenance(margin: Margin, data: ReportData):
    assert data.name == margin.name
    assert data.changed["margin_threshold"] == data.threshold == 3600.0
    assert data.changed.keys() == {
        *("input_catalog_path", "output_path", "tmp_dir", "margin_threshold")
    }
    assert data.defaults["fine_filtering"] is True and data.defaults["margin_order"] == -1
    assert data.cell_order is None
    assert data.versions["pyarrow"] == version("pyarrow")
    assert data.date == f"{datetime.now(UTC):%Y-%m-%d}"
    assert data.open_command == f'hipscat.read_from_hipscat("{margin.files.output_dir}")'
    assert data.audit is None


def test_an_unfinished_margin_is_an_error(margin: Margin, tmp_path: Path):
    moved = replace(margin, settings=replace(margin.settings, output_path=str(tmp_path)))
    with pytest.raises(MarginCacheError, match="not a finished margin"):
        read_report_data(moved)


def write_job(files: PlanFiles, rule: str, job: str, text: str) -> None:
    path = files.plan_dir / f"benchmarks/{rule}/{job}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_costs_are_grouped_by_stage(tmp_path: Path):
    files = PlanFiles(tmp_path)
    assert read_costs(files) == []
    write_job(
        files, "reduce_margins", "0", HEADER + "2.5\t0:00:02\t80.5\t1\t1\t1\t0\t0\t90\t2.25\n"
    )
    write_job(files, "map_partitions", "0", HEADER + "1\t0:00:01\t60\t1\t1\t1\t0\t0\t90\t0.5\n")
    write_job(files, "map_partitions", "1", HEADER + "3\t0:00:03\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n")
    mapping, reducing = read_costs(files)
    assert (mapping.stage, reducing.stage) == ("Mapping", "Reducing")
    assert mapping == StageCosts("Mapping", 2, 4, 0.5, 60)
    assert reducing == StageCosts("Reducing", 1, 2.5, 2.25, 80.5)


def test_truncated_benchmark_files_are_ignored(tmp_path: Path):
    files = PlanFiles(tmp_path)
    for job, text in enumerate(("", HEADER, HEADER + "1\t0:00:0", "s\n1\n")):
        write_job(files, "finish_margin", str(job), text)
    assert read_costs(files) == []


def test_an_audit_counts_until_its_margin_changes(copied: Margin, audit: Callable[..., None]):
    audit(copied)
    assert read_report_data(copied).audit["verdict"] == "clean"
    next(copied.files.output_dir.rglob("Npix=*.parquet")).touch()
    assert read_report_data(copied).audit is None
    copied.files.audit_file.write_text("no JSON")
    assert read_report_data(copied).audit is None
