from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.inventory import metadata_defects, schema_defects

ROWS = {(1, 4): 2, (1, 5): 3}


@pytest.fixture
def margin(tmp_path: Path) -> AuditedCatalog:
    """A margin of two files, which its metadata describe rightly."""
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


def test_metadata_that_are_right_have_no_defects(margin: AuditedCatalog) -> None:
    assert metadata_defects(margin, ROWS, 10.0) == []


def test_other_numbers_of_rows_are_found_at_each_place(margin: AuditedCatalog) -> None:
    found = metadata_defects(margin, {**ROWS, (1, 5): 4}, 10.0)
    assert found == [
        "total_rows is 5, but the files have 6 rows",
        *(
            f"1 numbers of rows that {margin.root / name} has otherwise than the files: "
            "(1, 5): 3 for 4"
            for name in ("partition_info.csv", "_metadata")
        ),
    ]


def test_the_lists_of_pixels_are_compared(margin: AuditedCatalog) -> None:
    path = margin.root / "partition_info.csv"
    path.write_text("Norder,Npix\n1,4\n1,6\n")
    assert metadata_defects(margin, ROWS, 10.0) == [
        f"1 pixels that only {path} has: (1, 6)",
        f"1 pixels that {path} lacks: (1, 5)",
    ]


def test_footers_of_files_that_are_not_listed_are_found(margin: AuditedCatalog) -> None:
    fewer = AuditedCatalog(margin.root, [(1, 4)], ".parquet", 10.0, 2, None, ("ra", "dec"))
    found = metadata_defects(fewer, {(1, 4): 2}, 10.0)
    assert f"1 pixels that only {margin.root / '_metadata'} has: (1, 5)" in found
    assert f"1 files that are not listed: {margin.path((1, 5))}" in found


@pytest.mark.parametrize("name", ["partition_info.csv", "_metadata"])
def test_what_cannot_be_read_is_a_defect(margin: AuditedCatalog, name: str) -> None:
    (margin.root / name).write_bytes(b"")
    (found,) = metadata_defects(margin, ROWS, 10.0)
    assert found.startswith(f"{margin.root / name}: cannot be read")


def test_columns_are_compared_but_for_those_that_say_where_a_row_is() -> None:
    primary = pa.schema(
        {"a": "int64", "b": "string", "Norder": "uint8", "_hipscat_index": "uint64"}
    )
    margin = pa.schema({"b": "int8", "c": "string", "margin_Npix": "uint64"})
    assert schema_defects(primary, primary) == []
    assert schema_defects(primary, margin) == [
        "no column a",
        "column c, which the primary has not",
        "column b is int8, not string",
    ]
