from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.metadata import PrimaryColumns, description_defects, metadata_defects

ROWS = {(1, 4): 2, (1, 5): 3}


@pytest.fixture
def margin(tmp_path: Path) -> AuditedCatalog:
    """A margin of two files, with right metadata."""
    catalog = AuditedCatalog(tmp_path, sorted(ROWS), ".parquet", 10.0, 5, None, ("ra", "dec"))
    footers: list[pq.FileMetaData] = []
    for pixel, count in ROWS.items():
        path = catalog.path(pixel)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"a": range(count)}), path, metadata_collector=footers)
        footers[-1].set_file_path(str(path.relative_to(tmp_path)))
    pq.write_metadata(pa.schema({"a": "int64"}), tmp_path / "_metadata", footers)
    (tmp_path / "partition_info.csv").write_text("Norder,Npix,num_rows\n1,4,2\n1,5,3\n")
    return catalog


def test_right_metadata_have_no_defects(margin: AuditedCatalog) -> None:
    assert metadata_defects(margin, ROWS) == []


@pytest.mark.parametrize("number", ["", "three", "2.5"])
def test_numbers_of_rows_may_be_no_numbers(margin: AuditedCatalog, number: str) -> None:
    (margin.root / "partition_info.csv").write_text(f"Norder,Npix,num_rows\n1,4,{number}\n1,5,3\n")
    (defect,) = metadata_defects(margin, ROWS)
    assert defect.startswith("1 numbers of rows in ") and "(1, 4)" in defect


@pytest.mark.parametrize("suffix", [".pq", ".parquet.zst", "/part-0.parquet"])
def test_footers_name_files_of_any_suffix(margin: AuditedCatalog, suffix: str) -> None:
    footers = [pq.read_metadata(margin.path(pixel)) for pixel in margin.pixels]
    for footer, pixel in zip(footers, margin.pixels, strict=True):
        name = str(margin.path(pixel).relative_to(margin.root))
        footer.set_file_path(name.removesuffix(".parquet") + suffix)
    pq.write_metadata(pa.schema({"a": "int64"}), margin.root / "_metadata", footers)
    assert metadata_defects(margin, ROWS) == []


def test_the_described_columns_are_compared_with_the_primary(margin: AuditedCatalog) -> None:
    primary = replace(margin, index_column="_healpix_29")
    (margin.root / "primary/Norder=1/Dir=0").mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}), margin.root / "primary/Norder=1/Dir=0/Npix=4.parquet")
    there = replace(margin, root=margin.root / "primary", pixels=[(1, 4)])
    columns = PrimaryColumns(there)
    assert description_defects(primary, margin, columns, 10.0) == []
    assert description_defects(primary, margin, columns, 20.0) == [
        "margin_threshold is 10, not 20 arcsec"
    ]
    other = replace(margin, index_column="_healpix_13", position_columns=("dec", "ra"))
    pq.write_metadata(pa.schema({"a": "int32"}), margin.root / "_common_metadata")
    assert description_defects(primary, other, columns, 10.0) == [
        "the coordinates are dec and ra in the margin's metadata, but ra and dec in the primary's"
        "; LSDB can refuse to open the margin",
        "the spatial index is _healpix_13 in the margin's metadata, but _healpix_29 in the "
        "primary's; LSDB can refuse to open the margin",
        f"{margin.root / '_common_metadata'}: column a is int32, not int64; LSDB can refuse to "
        "open the margin",
    ]
    (margin.root / "_common_metadata").write_bytes(b"")
    (defect,) = description_defects(primary, margin, columns, 10.0)
    assert defect.startswith(f"{margin.root / '_common_metadata'}: cannot be read")


def test_wrong_numbers_of_rows_are_found_in_each_file(margin: AuditedCatalog) -> None:
    defects = metadata_defects(margin, {**ROWS, (1, 5): 4})
    assert defects == [
        "total_rows is 5, but the files have 6 rows",
        *(
            f"1 numbers of rows in {margin.root / name} that differ from the files: "
            "(1, 5): 3 instead of 4"
            for name in ("partition_info.csv", "_metadata")
        ),
    ]


def test_the_lists_of_pixels_are_compared(margin: AuditedCatalog) -> None:
    path = margin.root / "partition_info.csv"
    path.write_text("Norder,Npix\n1,4\n1,6\n")
    assert metadata_defects(margin, ROWS) == [
        f"1 pixels only in {path}: (1, 6)",
        f"1 pixels missing from {path}: (1, 5)",
    ]


def test_footers_of_files_that_are_not_listed_are_found(margin: AuditedCatalog) -> None:
    fewer = AuditedCatalog(margin.root, [(1, 4)], ".parquet", 10.0, 2, None, ("ra", "dec"))
    defects = metadata_defects(fewer, {(1, 4): 2})
    assert f"1 pixels only in {margin.root / '_metadata'}: (1, 5)" in defects
    assert f"1 files that the margin does not list: {margin.path((1, 5))}" in defects


@pytest.mark.parametrize("name", ["partition_info.csv", "_metadata"])
def test_an_unreadable_file_is_a_defect(margin: AuditedCatalog, name: str) -> None:
    (margin.root / name).write_bytes(b"")
    (defect,) = metadata_defects(margin, ROWS)
    assert defect.startswith(f"{margin.root / name}: cannot be read")
