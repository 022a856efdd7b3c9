"""What a report says is what the files hold."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.report.contents import ReportData, read_contents


def rows_of(directory: Path) -> dict[tuple[int, int], int]:
    """Rows of the files below a directory, by order and pixel."""
    return {
        (int(path.parts[-3].partition("=")[2]), int(path.stem.partition("=")[2])): len(
            pd.read_parquet(path)
        )
        for path in directory.rglob("Npix=*.parquet")
    }


def test_rows_of_margin_and_partitions_are_those_of_the_files(margin: Margin, contents: ReportData):
    pixels = list(zip(contents.orders.tolist(), contents.pixels.tolist()))
    made = {pixel: rows for pixel, rows in zip(pixels, contents.margin_rows.tolist()) if rows}
    assert made == rows_of(margin.files.output_dir) and sum(made.values()) > 100
    own = rows_of(Path(margin.settings.input_catalog_path))
    assert {
        pixel: rows
        for pixel, rows, negative in zip(
            pixels, contents.primary_rows.tolist(), contents.is_negative
        )
        if not negative
    } == own
    sizes = {path.stat().st_size for path in margin.files.output_dir.rglob("Npix=*.parquet")}
    assert set(contents.margin_bytes.tolist()) - {0} == sizes


def test_parameters_and_versions_are_those_of_the_provenance(margin: Margin, contents: ReportData):
    assert contents.name == margin.name
    assert contents.parameters["margin_threshold"] == contents.threshold == 3600.0
    assert not {"files", "packages"} & contents.parameters.keys()
    assert contents.versions["pyarrow"] == version("pyarrow")
    assert contents.audit is None


def test_an_audit_is_told_if_there_is_one(margin: Margin, tmp_path: Path):
    moved = replace(margin, settings=replace(margin.settings, output_path=str(tmp_path)))
    (tmp_path / margin.name).symlink_to(margin.files.output_dir)
    assert read_contents(moved).audit is None
    moved.files.audit_file.parent.mkdir()
    moved.files.audit_file.write_text(json.dumps({"verdict": "sound", "missing": 0, "pixels": [1]}))
    assert read_contents(moved).audit == {"verdict": "sound", "missing": 0}
    for text in ("[1, 2]", "no JSON"):
        moved.files.audit_file.write_text(text)
        assert read_contents(moved).audit is None


def test_a_margin_that_is_not_finished_has_no_report(margin: Margin, tmp_path: Path):
    moved = replace(margin, settings=replace(margin.settings, output_path=str(tmp_path)))
    with pytest.raises(MarginCacheError, match="is no finished margin; make it before its report"):
        read_contents(moved)
