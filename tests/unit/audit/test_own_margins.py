"""Margins of random skies in all layouts: right ones are clean, and each wrong row is found."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.audit.findings import AuditReport
from margin_cache.audit.request import AuditRequest
from support import skies
from support.audits import audit_margin
from support.faulty_margins import make_margins
from support.margins import configuration
from support.oracle.distances import exact_distances
from support.small_skies import sky_of
from support.typed_tables import light_curve_table, typed_table
from support.write_hats import write_hats
from support.write_hipscat import write_hipscat

Pixel = tuple[int, int]
Defects = Counter[tuple[Pixel, str, int]]
"""How often each row of a pixel has a defect of a kind, by pixel, kind and spatial index."""

ROWS = 400
UNUSED_INDEX = 7


@dataclass(frozen=True)
class Case:
    columns: str = "few"
    is_hipscat: bool = False
    writer: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


CASES = {
    "hipscat": Case(is_hipscat=True),
    "hipscat_coarse": Case(is_hipscat=True, config={"fine_filtering": False}),
    "hipscat_types": Case("types", is_hipscat=True),
    "hats": Case(),
    "hats_coarse": Case(config={"fine_filtering": False}),
    "hats_coarse_order": Case(config={"fine_filtering": False, "margin_order": 4}),
    "hats_types": Case("types"),
    "light_curves": Case("light curves", config={"write_table_kwargs": {"row_group_size": 3}}),
    "directories": Case(
        writer={"suffix": "/", "files_per_partition": 3}, config={"npix_suffix": "/"}
    ),
    "suffix": Case(writer={"suffix": ".pq", "row_group_size": 5}),
    "coarse_index": Case(writer={"index_column": "_healpix_13", "index_order": 13}),
    "no_index": Case(writer={"index_column": None, "pandas_metadata": False}),
    "no_index_coarse": Case(writer={"index_column": None}, config={"fine_filtering": False}),
    "no_lists": Case(
        writer={"metadata": False, "partition_info": False, "properties": ["properties"]},
        config={"create_metadata": False},
    ),
}


def table_of(columns: str, seed: int, farthest: float) -> tuple[pa.Table, skies.IntArray]:
    """Rows near the borders of partitions around a hole, with columns of some types."""
    rng = np.random.default_rng(seed)
    targets = np.array([[order, rng.integers(12 << 2 * order)] for order in (1, 2)])
    sphere = skies.refined_partitions(targets)
    partitions = sphere[rng.random(len(sphere)) < 0.8]
    sky = sky_of(partitions, ROWS, farthest, seed)
    values = sky.table.append_column("mag", pa.array(rng.normal(20, 1, len(sky.table))))
    if columns != "few":
        make = light_curve_table if columns == "light curves" else typed_table
        others = make(len(values), seed)
        for name in set(others.column_names) - {"id", "ra", "dec"}:
            values = values.append_column(others.schema.field(name), others[name])
    return values, partitions


def make_site(case: Case, seed: int, directory: Path) -> None:
    """Make the catalog `sky` and its margin."""
    threshold = float(np.exp(np.random.default_rng(seed).uniform(*np.log([300, 7000]))))
    table, partitions = table_of(case.columns, seed, 2 * threshold)
    write = write_hipscat if case.is_hipscat else write_hats
    write(directory, "sky", table, partitions, **case.writer)
    config = configuration(Path("sky"), margin_threshold=threshold, **case.config)
    with chdir(directory):
        make_margins(config)


def audit(directory: Path, **options: Any) -> AuditReport:
    margin = directory / "results/margin"
    return audit_margin(AuditRequest(str(directory / "sky"), str(margin), "unused", **options))


def files_of(catalog: Path) -> Iterator[tuple[Pixel, Path]]:
    for path in sorted(catalog.rglob("Norder=*/**/*")):
        match = re.search(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)", str(path))
        if path.is_file() and match:
            yield (int(match[1]), int(match[2])), path


def found_defects(report: AuditReport) -> Defects:
    found: Defects = Counter()
    for result in report.pixels:
        defects = result.row_defects
        for kind in ("missing", "changed", "foreign", "duplicate"):
            found.update((result.pixel, kind, index) for index in getattr(defects, kind))
        found.update((result.pixel, "beyond", index) for index, _ in defects.beyond)
    return found


def changed(rows: pa.Table, row: int, name: str) -> pa.Table | None:
    """Return one row, with the value of another row in a column; None if all are equal."""
    column = rows[name].combine_chunks()
    own = column[row : row + 1].to_string()
    for other in range(len(rows)):
        if column[other : other + 1].to_string() != own:
            at = rows.column_names.index(name)
            value = column.take(pa.array([other]))
            return rows.slice(row, 1).set_column(at, rows.field(name), value)
    return None


def with_values(row: pa.Table, **values: float) -> pa.Table:
    for name, value in values.items():
        at = row.column_names.index(name)
        row = row.set_column(at, row.field(name), pa.array([value], row.schema.field(name).type))
    return row


class Damage:
    """Changes of the files of a margin, and the defects that they are."""

    def __init__(self, margin: Path, threshold: float, index_column: str | None) -> None:
        self.threshold, self.index_column = threshold, index_column
        self.expected: Defects = Counter()
        files = [(pixel, path, pq.ParquetFile(path).read()) for pixel, path in files_of(margin)]
        self.files = [file for file in files if len(file[2]) >= 5]
        assert len(self.files) > 2
        names = self.files[0][2].column_names
        pending = list(names)
        for number, (pixel, path, rows) in enumerate(self.files):
            kept = rows.slice(2, 2)
            self.expect(pixel, "missing", rows, 0)
            kept = pa.concat_tables([kept, rows.slice(1, 1), rows.slice(1, 1)])
            self.expect(pixel, "duplicate", rows, 1)
            kept = pa.concat_tables([kept, self.put_in(pixel, rows, number)])
            kept = pa.concat_tables([kept, self.foreign(pixel, rows, 3)])
            for row in range(4, len(rows)):
                new, pending = self.change(pixel, rows, row, pending or list(names))
                kept = pa.concat_tables([kept, new])
            pq.write_table(kept, path)

    def index(self, rows: pa.Table, row: int) -> int:
        if self.index_column is not None:
            return int(rows[self.index_column][row].as_py())
        ra, dec = (rows[name][row].as_py() for name in ("ra", "dec"))
        return int(healpy.ang2pix(2**29, ra, dec, nest=True, lonlat=True))

    def expect(self, pixel: Pixel, kind: str, rows: pa.Table, row: int) -> None:
        order, number = pixel
        at = [np.array([rows[name][row].as_py()]) for name in ("ra", "dec")]
        if kind == "missing" and exact_distances(*at, [order], [number])[0] > self.threshold:
            return  # of a coarse margin
        self.expected[pixel, kind, self.index(rows, row)] += 1

    def put_in(self, pixel: Pixel, rows: pa.Table, number: int) -> pa.Table:
        """A row of another file that is not in this one."""
        _, _, others = self.files[(number + 1) % len(self.files)]
        ids = set(rows["id"].to_pylist())
        row = next(
            (n for n, value in enumerate(others["id"].to_pylist()) if value not in ids), None
        )
        if row is None:
            return rows.slice(0, 0)
        at = [others[name][row].as_py() for name in ("ra", "dec")]
        is_own = healpy.ang2pix(1 << pixel[0], *at, nest=True, lonlat=True) == pixel[1]
        self.expect(pixel, "duplicate" if is_own else "beyond", others, row)
        return others.slice(row, 1)

    def foreign(self, pixel: Pixel, rows: pa.Table, row: int) -> pa.Table:
        new = with_values(rows.slice(row, 1), dec=rows["dec"][row].as_py() * (1 - 1e-9))
        if self.index_column is not None:
            new = with_values(new, **{self.index_column: UNUSED_INDEX})
        self.expect(pixel, "foreign", new, 0)
        return new

    def change(
        self, pixel: Pixel, rows: pa.Table, row: int, pending: list[str]
    ) -> tuple[pa.Table, list[str]]:
        for name in pending:
            new = changed(rows, row, name)
            if new is None:
                continue
            if name == self.index_column:  # the index of another row would look like that row
                new = with_values(rows.slice(row, 1), **{name: UNUSED_INDEX + 1})
            if name in (self.index_column, "ra", "dec"):
                self.expect(pixel, "missing", rows, row)
                self.expect(pixel, "foreign", new, 0)
            else:
                self.expect(pixel, "changed", rows, row)
            return new, [other for other in pending if other != name]
        return rows.slice(row, 1), pending


QUICK = ("hipscat", "hats_coarse_order", "hats_types", "directories", "coarse_index", "no_index")
LONG = [(name, seed) for name in CASES for seed in range(4) if seed or name not in QUICK]


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        *((name, 0) for name in QUICK),
        *(pytest.param(*case, marks=pytest.mark.long) for case in LONG),
    ],
)
def test_a_right_margin_is_clean_and_each_wrong_row_is_found(
    name: str, seed: int, tmp_path: Path
) -> None:
    case = CASES[name]
    seed = 100 * seed + list(CASES).index(name)
    make_site(case, seed, tmp_path)
    report = audit(tmp_path)
    assert report.verdict == "clean", report.counts
    assert (report.cell_order is None) == case.config.get("fine_filtering", True)
    assert sum(result.rows for result in report.pixels) > 30
    index_column = case.writer.get("index_column", "_healpix_29")
    damage = Damage(
        tmp_path / "results/margin",
        report.threshold,
        "_hipscat_index" if case.is_hipscat else index_column,
    )
    assert {"missing", "changed", "foreign", "duplicate", "beyond"} <= {
        kind for _, kind, _ in damage.expected
    }
    found = found_defects(audit(tmp_path))
    assert found - damage.expected == Counter()
    assert damage.expected - found == Counter()


def test_a_margin_of_some_partitions_is_compared_with_these(tmp_path: Path) -> None:
    table, partitions = table_of("few", 3, 2000.0)
    write_hats(tmp_path, "sky", table, partitions)
    chosen = [(int(order), int(pixel)) for order, pixel in partitions[:3]]
    config = configuration(
        Path("sky"), margin_threshold=1000.0, debug_filter_pixel_list=list(map(list, chosen))
    )
    with chdir(tmp_path):
        make_margins(config)
    report = audit(tmp_path)
    assert report.metadata == [
        "the margin was made of 3 partitions only, and compared with these "
        "(debug_filter_pixel_list in its provenance_info.json). A crossmatch of other partitions "
        "loses pairs"
    ]
    assert not any(number for kind, number in report.counts.items() if kind != "metadata")
    assert audit(tmp_path, only_pixels=tuple(chosen)).verdict == "clean"
    assert audit(tmp_path, only_pixels=()).counts["missing"] > 0
