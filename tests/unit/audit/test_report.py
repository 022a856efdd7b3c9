import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.audit.catalogs import INDEXES
from margin_cache.audit.output import write_report
from margin_cache.audit.report import audit_margin
from margin_cache.stages.finish import finish_margin
from support.margins import configuration
from support.once import once
from support.small_skies import small_catalog
from support.stages import release_locks
from support.workflow_runs import without_snakemake
from support.write_hats import write_hats
from support.write_hipscat import write_hipscat

WRITERS: dict[str, Callable[..., None]] = {"older": write_hipscat, "newer": write_hats}
ADDED = ["_hipscat_index", "Norder", "Dir", "Npix"]
Edit = Callable[[pa.Table], pa.Table]


def make_site(name: str, directory: Path) -> None:
    """A catalog that lacks two partitions, so that negative pixels have rows, and its margin."""
    directory.mkdir()
    small_catalog(directory / "all", rows=900, max_rows=100)
    listed = pd.read_csv(directory / "all/partition_info.csv").iloc[2:]
    pixels = listed[["Norder", "Npix"]].to_numpy()
    paths = [
        directory / f"all/Norder={order}/Dir=0/Npix={pixel}.parquet" for order, pixel in pixels
    ]
    tables = [pq.ParquetFile(path).read().drop_columns(ADDED) for path in paths]
    rows = pa.concat_tables(tables).replace_schema_metadata(None)
    WRITERS[name](directory, "sky", rows, pixels)
    here = Path.cwd()
    os.chdir(directory)
    for margin in without_snakemake(configuration(Path("sky"), margin_threshold=600.0)):
        finish_margin(margin)
    release_locks()
    os.chdir(here)


@pytest.fixture(params=WRITERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = request.param
    return once(tmp_path_factory, f"audited_{name}", lambda path: make_site(name, path))


@pytest.fixture
def margin(site: Path, tmp_path: Path) -> Path:
    """A copy of the margin, to be damaged."""
    copy = tmp_path / "margin"
    for file in (site / "results/margin").rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(site / "results/margin")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return copy


def files_of(margin: Path) -> list[Path]:
    """The files that have several rows: of partitions, and of negative pixels."""
    files = sorted(margin.rglob("Npix=*.parquet"))
    return [file for file in files if pq.ParquetFile(file).metadata.num_rows >= 4]


def counts(site: Path, margin: Path) -> dict[str, int]:
    """The kinds of defects that are found, of those that are."""
    found = audit_margin(site / "sky", margin, None).counts
    return {kind: number for kind, number in found.items() if number}


def index_of(rows: pa.Table) -> str:
    return next(name for name in rows.column_names if name in INDEXES)


def edit(path: Path, change: Edit) -> None:
    pq.write_table(change(pq.ParquetFile(path).read()), path)


def test_an_untouched_margin_is_clean_in_negative_pixels_too(site: Path, margin: Path) -> None:
    report = audit_margin(site / "sky", margin, None)
    listed = pd.read_csv(site / "sky/partition_info.csv")
    partitions = set(zip(listed["Norder"], listed["Npix"], strict=True))
    assert report.is_clean
    assert report.threshold == 600
    assert sum(each.rows for each in report.pixels if each.pixel not in partitions) > 0
    assert sum(each.rows for each in report.pixels) > 100


def test_rows_removed_and_doubled_are_found_in_each_file(site: Path, margin: Path) -> None:
    files = files_of(margin)
    for file in files:
        edit(file, lambda rows: pa.concat_tables([rows.slice(1, 1), rows.slice(1)]))
    assert counts(site, margin) == {"missing": len(files), "double": len(files)}


def test_changed_rows_and_unsorted_files_are_found(site: Path, margin: Path) -> None:
    first, second = files_of(margin)[:2]
    magnitude = pq.ParquetFile(first).schema_arrow.names.index("mag")

    def brighten(rows: pa.Table) -> pa.Table:
        values = rows["mag"].to_pylist()
        column = pa.array([-99.0, *values[1:]], rows["mag"].type)
        return rows.set_column(magnitude, rows.field("mag"), column)

    edit(first, brighten)
    edit(second, lambda rows: rows.take(list(range(len(rows)))[::-1]))
    assert counts(site, margin) == {"changed": 1, "unsorted": 1}


def test_a_moved_row_is_missing_here_and_false_there(site: Path, margin: Path) -> None:
    files = files_of(margin)
    source, target = files[0], files[-1]
    moved = pq.ParquetFile(source).read().slice(0, 1)
    edit(source, lambda rows: rows.slice(1))
    edit(target, lambda rows: pa.concat_tables([moved, rows]).sort_by(index_of(rows)))
    found = counts(site, margin)
    found.pop("metadata", None)  # numbers of rows in _metadata
    assert found == {"missing": 1, "false": 1}


def test_a_file_that_cannot_be_read_is_found(site: Path, margin: Path) -> None:
    file = files_of(margin)[0]
    rows = pq.ParquetFile(file).metadata.num_rows
    file.write_bytes(b"PAR1")
    found = counts(site, margin)
    assert found == {"missing": rows, "unreadable": 1, "metadata": 1}


def test_a_smaller_threshold_is_found(site: Path, margin: Path) -> None:
    report = audit_margin(site / "sky", margin, 2000.0)
    assert report.counts["missing"] > 0
    assert report.metadata == ["margin_threshold is 600, not 2000 arcsec"]


def test_the_files_name_the_rows(site: Path, margin: Path, tmp_path: Path) -> None:
    file = files_of(margin)[0]
    gone = pq.ParquetFile(file).read().slice(0, 1)
    edit(file, lambda rows: rows.slice(1))
    write_report(audit_margin(site / "sky", margin, None), tmp_path / "out")
    content = json.loads((tmp_path / "out/audit.json").read_text())
    (pixel,) = content["pixels"]
    assert content["verdict"] == "faulty"
    assert pixel["missing"] == gone[index_of(gone)].to_pylist()
    assert pd.read_csv(tmp_path / "out/audit.csv")["missing"].sum() == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audit.csv",
        "audit.json",
        "false.png",
        "missing.png",
    ]
