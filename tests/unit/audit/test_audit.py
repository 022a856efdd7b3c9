import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.audit.audit import Audit
from margin_cache.audit.catalogs import INDEX_COLUMNS
from margin_cache.audit.findings import AuditReport, RangeFindings
from margin_cache.audit.request import AuditRequest, cut_sky
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.neighbors import are_in_margins, find_candidates
from margin_cache.margin import map as map_stage
from support import skies
from support.audited_sites import (
    WRITERS,
    RowsOfPixels,
    make_catalog,
    make_margin,
    make_site,
    pixel_of,
    rows_of_margin,
    true_rows,
)
from support.audits import audit_margin
from support.once import once

Edit = Callable[[pa.Table], pa.Table]


BOTH_FORMATS = list(WRITERS)
# What is found in the rows of a margin does not depend on its format.
ONE_FORMAT = ["hats", pytest.param("hipscat", marks=pytest.mark.long)]


@pytest.fixture(params=ONE_FORMAT)
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


def request_for(
    primary: Path, margin: Path, threshold: float | None = None, **more: Any
) -> AuditRequest:
    return AuditRequest(str(primary), str(margin), "out", threshold, **more)


def audit(*arguments: Any, **more: Any) -> AuditReport:
    return audit_margin(request_for(*arguments, **more))


def counts(site: Path, margin: Path) -> dict[str, int]:
    """The kinds of defects that are found, of those that are."""
    found = audit(site / "sky", margin).counts
    return {kind: number for kind, number in found.items() if number}


def index_of(rows: pa.Table) -> str:
    return next(name for name in rows.column_names if name in INDEX_COLUMNS)


def edit(path: Path, change: Edit) -> None:
    pq.write_table(change(pq.ParquetFile(path).read()), path)


@pytest.mark.parametrize("site", BOTH_FORMATS, indirect=True)
def test_an_untouched_margin_is_clean_in_negative_pixels_too(site: Path, margin: Path) -> None:
    report = audit(site / "sky", margin)
    listed = pd.read_csv(site / "sky/partition_info.csv")
    partitions = set(zip(listed["Norder"], listed["Npix"], strict=True))
    assert report.verdict == "clean"
    assert report.threshold == 600
    assert sum(result.rows for result in report.pixels if result.pixel not in partitions) > 0
    assert sum(result.rows for result in report.pixels) > 100


def test_removed_and_duplicate_rows_are_found_in_each_file(site: Path, margin: Path) -> None:
    files = files_of(margin)
    for file in files:
        edit(file, lambda rows: pa.concat_tables([rows.slice(1, 1), rows.slice(1)]))
    assert counts(site, margin) == {"missing": len(files), "duplicate": len(files)}


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


def test_a_row_in_a_wrong_file_is_missing_and_beyond(site: Path, margin: Path) -> None:
    files = files_of(margin)
    source = files[0]
    moved = pq.ParquetFile(source).read().slice(0, 1)
    edit(source, lambda rows: rows.slice(1))
    for target in files[1:]:
        edit(target, lambda rows: pa.concat_tables([moved, rows]).sort_by(index_of(rows)))
    found = counts(site, margin)
    found.pop("metadata")  # numbers of rows in _metadata
    owns = found.pop("duplicate")  # the file of the partition that the row comes from
    assert owns == 1
    assert found == {"missing": 1, "beyond": len(files) - 2}


def touches_pole(pixel: tuple[int, int], is_north: bool) -> bool:
    """Whether a pixel has a corner at a pole: the last of a northern face, the first of others."""
    face, place = divmod(pixel[1], 4 ** pixel[0])
    return face < 4 and place == 4 ** pixel[0] - 1 if is_north else face >= 8 and place == 0


@pytest.mark.parametrize("site", BOTH_FORMATS, indirect=True)
def test_each_wrong_row_is_named_by_pixel_and_index(site: Path, margin: Path) -> None:
    """In each file one row is removed, one duplicated, one changed, and one comes from another."""
    files = files_of(margin)
    tables = {file: pq.ParquetFile(file).read() for file in files}
    name = index_of(tables[files[0]])
    index = {file: rows[name].to_pylist() for file, rows in tables.items()}
    at = tables[files[0]].column_names.index("mag")
    expected: dict[str, list[tuple[tuple[int, int], int]]] = defaultdict(list)
    moved = {}
    for file, source in zip(files, [*files[1:], files[0]], strict=True):
        place = next(n for n, row in enumerate(index[source]) if n > 2 and row not in index[file])
        moved[file] = source, place
    taken = dict(moved.values())
    for file in files:
        pixel, rows = pixel_of(file), tables[file]
        source, place = moved[file]
        rest = [n for n in range(len(rows)) if n not in (0, taken[file])]
        kept = rows.take([*rest, 1])
        values = [-99.0 if n == 2 else value for n, value in enumerate(rows["mag"].to_pylist())]
        values = [values[n] for n in [*rest, 1]]
        kept = kept.set_column(at, rows.field("mag"), pa.array(values, rows["mag"].type))
        both = pa.concat_tables([kept, tables[source].slice(place, 1)])
        pq.write_table(both.sort_by(name), file)
        expected["missing"] += [(pixel, index[file][n]) for n in (0, taken[file])]
        expected["duplicate"].append((pixel, index[file][1]))
        expected["changed"].append((pixel, index[file][2]))
        at_position = [tables[source][column][place].as_py() for column in ("ra", "dec")]
        is_own = healpy.ang2pix(1 << pixel[0], *at_position, nest=True, lonlat=True) == pixel[1]
        expected["duplicate" if is_own else "beyond"].append((pixel, index[source][place]))
    report = audit(site / "sky", margin)
    found = [(result.pixel, result.row_defects) for result in report.pixels]
    for kind in ("missing", "duplicate", "changed"):
        rows_found = [(pixel, row) for pixel, rows in found for row in getattr(rows, kind)]
        assert sorted(rows_found) == sorted(expected[kind]), kind
    beyond = [(pixel, row) for pixel, rows in found for row, _ in rows.beyond]
    assert sorted(beyond) == sorted(expected["beyond"])
    assert report.counts["unsorted"] == report.counts["unreadable"] == 0
    touched = {pixel for pixel, _ in expected["changed"]}
    assert any(touches_pole(pixel, True) for pixel in touched)
    assert any(touches_pole(pixel, False) for pixel in touched)
    assert any(result.pixel in touched for result in report.pixels if not result.is_partition)


def test_an_unreadable_file_is_found(site: Path, margin: Path) -> None:
    file = files_of(margin)[0]
    rows = pq.ParquetFile(file).metadata.num_rows
    file.write_bytes(b"PAR1")
    found = counts(site, margin)
    assert found == {"missing": rows, "unreadable": 1, "metadata": 1}


@pytest.mark.parametrize("site", BOTH_FORMATS, indirect=True)
def test_a_smaller_threshold_is_found(site: Path, margin: Path) -> None:
    report = audit(site / "sky", margin, 2000.0)
    assert report.counts["missing"] > 0
    assert report.metadata == ["margin_threshold is 600, not 2000 arcsec"]
    assert report.claimed_threshold is None
    assert audit(site / "sky", margin, 300.0).claimed_threshold == 600


@pytest.mark.parametrize(
    ("site", "value"),
    [
        *(("hats", value) for value in ("Infinity", "NaN", "-5")),
        *(("hipscat", value) for value in ("NaN", '"600"')),
    ],
    indirect=["site"],
)
def test_a_threshold_that_is_no_distance_is_an_error(site: Path, margin: Path, value: str) -> None:
    for name in ("catalog_info.json", "hats.properties", "properties"):
        if (margin / name).exists():
            text = (margin / name).read_text()
            text = re.sub(r'(margin_threshold"?[:=] ?)[\d.]+', rf"\g<1>{value}", text)
            (margin / name).write_text(text)
    with pytest.raises(MarginCacheError, match="must be a number of arcsec above 0, not"):
        audit(site / "sky", margin)
    for wrong in (float(value.strip('"')), 0.0):
        if wrong != 600:
            with pytest.raises(MarginCacheError, match="must be a number of arcsec above 0, not"):
                audit(site / "sky", margin, wrong)
    assert audit(site / "sky", margin, 600.0).verdict == "safe"


def missing_and_beyond(report: AuditReport) -> tuple[RowsOfPixels, RowsOfPixels]:
    missing = Counter(
        (result.pixel, row) for result in report.pixels for row in result.row_defects.missing
    )
    beyond = Counter(
        (result.pixel, row) for result in report.pixels for row, _ in result.row_defects.beyond
    )
    return missing, beyond


@pytest.fixture(params=ONE_FORMAT)
def bare(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A directory with a catalog and no margin yet."""
    name = request.param
    shared = once(tmp_path_factory, f"bare_{name}", lambda path: make_bare(name, path))
    (tmp_path / "sky").symlink_to(shared / "sky")
    return tmp_path


def make_bare(name: str, path: Path) -> None:
    path.mkdir()
    make_catalog(name, path, rows=6000)


@pytest.mark.parametrize("bare", BOTH_FORMATS, indirect=True)
def test_a_filter_that_is_too_small_misses_rows(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def smaller(*pairs: Any) -> Any:
        return are_in_margins(*pairs[:-1], pairs[-1] * 0.99)

    monkeypatch.setattr(map_stage, "are_in_margins", smaller)
    make_margin(bare)
    truth, made = true_rows(bare / "sky"), rows_of_margin(bare / "results/margin")
    assert truth - made
    report = audit(bare / "sky", bare / "results/margin")
    assert missing_and_beyond(report) == (truth - made, Counter())
    assert set(report.counts.values()) == {0, (truth - made).total()}


def test_a_filter_that_is_too_large_adds_rows_beyond_the_threshold(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def larger(*pairs: Any) -> Any:
        return are_in_margins(*pairs[:-1], pairs[-1] * 1.02)

    monkeypatch.setattr(map_stage, "are_in_margins", larger)
    make_margin(bare)
    truth, made = true_rows(bare / "sky"), rows_of_margin(bare / "results/margin")
    assert made - truth
    report = audit(bare / "sky", bare / "results/margin")
    assert missing_and_beyond(report) == (Counter(), made - truth)
    beyond = [far for result in report.pixels for _, far in result.row_defects.beyond]
    assert all(0 < far <= 12 for far in beyond)


@pytest.mark.parametrize("forgotten", ["one neighbour", "all negative pixels"])
def test_rows_of_forgotten_neighbours_are_missing(
    bare: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    partitions = {pixel for pixel, _ in true_rows(bare / "sky")}
    listed = pd.read_csv(bare / "sky/partition_info.csv")
    whole = set(zip(listed["Norder"].tolist(), listed["Npix"].tolist(), strict=True))
    lost = min(partitions & whole)

    def forgetful(index: Any, shift: Any, pixel: Any, destinations: Any, order: int) -> Any:
        rows, found = find_candidates(index, shift, pixel, destinations, order)
        starts, stops = (bounds[found] for bounds in destinations)
        orders = 29 - np.log2(stops - starts).astype(int) // 2
        pixels = list(zip(orders.tolist(), (starts // (stops - starts)).tolist(), strict=True))
        if forgotten == "one neighbour":
            kept = np.array([pixel != lost for pixel in pixels], bool)
        else:
            kept = np.array([pixel in whole for pixel in pixels], bool)
        return rows[kept], found[kept]

    monkeypatch.setattr(map_stage, "find_candidates", forgetful)
    make_margin(bare)
    truth, made = true_rows(bare / "sky"), rows_of_margin(bare / "results/margin")
    assert truth - made
    report = audit(bare / "sky", bare / "results/margin")
    assert missing_and_beyond(report) == (truth - made, Counter())
    beside = (truth - made).total() if forgotten == "all negative pixels" else 0
    assert report.missing_outside == beside


@pytest.mark.parametrize("bare", BOTH_FORMATS, indirect=True)
def test_a_coarse_margin_is_judged_by_its_cells(bare: Path) -> None:
    make_margin(bare, fine_filtering=False)
    margin = bare / "results/margin"
    assert audit(bare / "sky", margin).verdict == "clean"
    assert audit(bare / "sky", margin, is_coarse=False).counts["beyond"] > 100
    assert audit(bare / "sky", margin, cell_order=9).counts["beyond"] > 100
    assert audit(bare / "sky", margin, cell_order=0).verdict == "clean"
    file = files_of(margin)[0]
    edit(file, lambda rows: rows.slice(0, 0))
    assert audit(bare / "sky", margin).counts["missing"] > 0


@pytest.mark.parametrize("site", BOTH_FORMATS, indirect=True)
def test_a_file_that_is_not_listed_is_found(site: Path, margin: Path) -> None:
    file = files_of(margin)[0]
    stray = file.parents[2] / "Norder=9/Dir=0/Npix=7.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(file.read_bytes())
    report = audit(site / "sky", margin)
    assert report.metadata == [f"1 files that the margin does not list: {stray}"]


@pytest.mark.parametrize("site", BOTH_FORMATS, indirect=True)
def test_a_pixel_that_overlaps_a_partition_is_found(site: Path, margin: Path) -> None:
    sound = audit(site / "sky", margin)
    moved = next(result for result in sound.pixels if result.is_partition and result.rows)
    order, number = moved.pixel
    child = 9, number << 2 * (9 - order)
    move_file(margin, moved.pixel, child)
    report = audit(site / "sky", margin)
    assert f"pixel {child} is listed, but overlaps partitions of the primary" in report.metadata
    assert report.counts["missing"] == moved.rows
    assert not [line for line in report.metadata if "total_rows" in line or "does not list" in line]


def test_rows_of_a_listed_pixel_far_from_all_partitions_are_beyond(
    site: Path, margin: Path
) -> None:
    sound = audit(site / "sky", margin)
    hole = next(result for result in sound.pixels if result.is_listed and not result.is_partition)
    order, number = hole.pixel
    ra, dec = healpy.pix2ang(1 << order, number, nest=True, lonlat=True)
    inner = 9, int(healpy.ang2pix(1 << 9, ra, dec, nest=True, lonlat=True))
    move_file(margin, hole.pixel, inner)
    report = audit(site / "sky", margin)
    (result,) = [result for result in report.pixels if result.pixel == inner]
    assert len(result.row_defects.beyond) == result.rows == hole.rows > 0
    assert report.counts["missing"] >= hole.rows


@pytest.mark.parametrize("name", WRITERS)
def test_a_listed_pixel_is_judged_where_no_partition_is_near(name: str, tmp_path: Path) -> None:
    for part, number in (("sky", 0), ("margin", 100)):
        partitions = np.array([[2, number]])
        ra, dec = skies.pixel_positions(partitions.repeat(5, 0), *np.full((2, 5), 0.5))
        table = pa.table({"id": np.arange(5), "ra": ra, "dec": dec})
        WRITERS[name](tmp_path, part, table, partitions)
    report = audit(tmp_path / "sky", tmp_path / "margin", 600.0)
    (result,) = [result for result in report.pixels if result.pixel == (2, 100)]
    assert len(result.row_defects.foreign) == result.rows == 5
    assert report.counts["foreign"] == 5 and report.counts["missing"] == 0


def move_file(margin: Path, pixel: tuple[int, int], to: tuple[int, int]) -> None:
    """Have a margin list another pixel in the place of one, with its file."""
    order, number = pixel
    (source,) = margin.rglob(f"Norder={order}/Dir=0/Npix={number}.parquet")
    directory = to[1] // 10000 * 10000
    target = source.parents[2] / f"Norder={to[0]}/Dir={directory}/Npix={to[1]}.parquet"
    target.parent.mkdir(parents=True)
    source.rename(target)
    path = margin / "partition_info.csv"
    table = pd.read_csv(path)
    line = (table["Norder"] == order) & (table["Npix"] == number)
    table.loc[line, ["Norder", "Npix"]] = to
    if "Dir" in table:
        table.loc[line, "Dir"] = directory
    table.to_csv(path, index=False)


@pytest.mark.parametrize("site", BOTH_FORMATS, indirect=True)
def test_columns_of_other_types_are_found_and_values_are_not_compared(
    site: Path, margin: Path
) -> None:
    first, second = files_of(margin)[:2]
    at = pq.ParquetFile(first).schema_arrow.names.index("mag")
    edit(first, lambda rows: rows.set_column(at, "mag", rows["mag"].cast(pa.float64())))
    edit(second, lambda rows: rows.drop_columns("mag"))
    report = audit(site / "sky", margin)
    schemas = sorted(line for result in report.pixels for line in result.schema)
    assert schemas == ["column mag is double, not float", "no column mag"]
    assert {kind: number for kind, number in report.counts.items() if number} == {"columns": 2}


@pytest.mark.parametrize("site", ["hats"], indirect=True)
def test_the_columns_of_each_file_of_a_directory_are_compared(site: Path, margin: Path) -> None:
    for file in margin.rglob("Npix=*.parquet"):
        file.with_suffix("").mkdir()
        file.rename(file.with_suffix("") / "a.parquet")
    for name in ("hats.properties", "properties"):
        if (margin / name).exists():
            with (margin / name).open("a") as properties:
                properties.write("hats_npix_suffix=/\n")
    assert not counts(site, margin).keys() - {"metadata"}
    changes: list[Edit] = [
        lambda rows: rows.append_column("new", rows["mag"]),
        lambda rows: rows.drop_columns("mag").append_column("mag", rows["mag"].cast("string")),
        lambda rows: rows.drop_columns("mag"),
        lambda rows: rows.append_column("mag", rows["mag"]),
    ]
    files = [file for file in sorted(margin.rglob("a.parquet")) if len(pq.read_table(file)) > 3]
    for file, change in zip(files, changes, strict=False):
        rows = pq.ParquetFile(file).read()
        pq.write_table(rows.slice(0, 2), file)
        pq.write_table(change(rows.slice(2)), file.with_name("b.parquet"))
    report = audit(site / "sky", margin)
    assert sorted(line for result in report.pixels for line in result.schema) == [
        "column mag is string, not float",
        "column new is not in the primary",
        "no column mag",
        "several columns mag",
    ]
    assert report.counts["columns"] == 4
    assert {kind for kind, number in report.counts.items() if number} <= {"columns", "metadata"}


def test_a_margin_without_the_index_is_unreadable(site: Path, margin: Path) -> None:
    file = files_of(margin)[0]
    edit(file, lambda rows: rows.drop_columns(index_of(rows)))
    report = audit(site / "sky", margin)
    assert report.counts["unreadable"] == 1
    assert [result.error for result in report.pixels if "no column" in result.error]


def test_keys_that_are_no_numbers_are_unreadable(site: Path, margin: Path) -> None:
    first, second = files_of(margin)[:2]
    for file, name in ((first, index_of(pq.ParquetFile(first).read())), (second, "dec")):
        at = pq.ParquetFile(file).schema_arrow.names.index(name)
        rows = pq.ParquetFile(file).read()
        pq.write_table(rows.set_column(at, name, pa.array(["?"] * len(rows))), file)
    report = audit(site / "sky", margin)
    assert report.counts["unreadable"] == 2
    assert all("no numbers" in result.error for result in report.pixels if result.error)


def test_a_damaged_provenance_is_ignored(site: Path, margin: Path) -> None:
    for arguments in (7, {"debug_filter_pixel_list": [3], "margin_order": "x"}):
        values = {"tool_args": {"runtime_args": arguments}}
        (margin / "provenance_info.json").write_text(json.dumps(values))
        assert not {"missing", "foreign", "changed"} & counts(site, margin).keys()


def test_the_sky_ranges_together_find_the_same_as_one(site: Path, margin: Path) -> None:
    for file in files_of(margin):
        edit(file, lambda rows: rows.slice(1))
    request = request_for(site / "sky", margin)
    whole = audit_margin(request)
    firsts = [result.pixel[1] << 2 * (29 - result.pixel[0]) for result in whole.pixels[::4]]
    names = list(map(str, range(len(firsts))))
    cut = request_for(site / "sky", margin, sky_ranges=cut_sky(names, firsts))
    found = [Audit(cut).check_sky_range(part) for part in cut.sky_ranges]
    assert len(found) > 2 and all(part.pixels for part in found)
    assert audit_margin(cut) == whole
    without = [pixel for part in found[1:] for pixel in part.pixels]
    twice = [pixel for part in (*found, found[0]) for pixel in part.pixels]
    for pixels in (without, twice):
        with pytest.raises(MarginCacheError, match="missing from the findings, or occur twice"):
            Audit(cut).conclude(RangeFindings(99, pixels))


def test_a_sample_has_the_defects_of_its_pixels_and_all_metadata(site: Path, margin: Path) -> None:
    for file in files_of(margin):
        edit(file, lambda rows: rows.slice(1))
    whole = audit(site / "sky", margin)
    sample = audit(site / "sky", margin, fraction=0.5, seed=3)
    assert 0 < len(sample.pixels) < len(whole.pixels) == sample.candidates
    by_pixel = {result.pixel: result for result in whole.pixels}
    assert all(result == by_pixel[result.pixel] for result in sample.pixels)
    assert 0 < sample.counts["missing"] < whole.counts["missing"]
    assert sample.metadata == whole.metadata
    others = [file for file in files_of(margin) if pixel_of(file) not in sample_of(sample)]
    others[0].write_bytes(b"PAR1")
    broken = audit(site / "sky", margin, fraction=0.5, seed=3)
    assert any(str(others[0]) in line for line in broken.unreadable)
    assert broken.verdict == "unsafe"
    with pytest.raises(MarginCacheError, match=r"audit_fraction: none of .* is in the sample"):
        audit(site / "sky", margin, fraction=1e-9)


def sample_of(report: AuditReport) -> set[tuple[int, int]]:
    return {result.pixel for result in report.pixels}
