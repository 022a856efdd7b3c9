"""A margin is a HiPSCat margin catalog, and has the columns of its primary as they were."""

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import skies
from support.described_margins import MARGINS, description, files, make_margins
from support.faulty_margins import make_in
from support.once import once
from support.paths import ROOT
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

FILLED = [name for name in MARGINS if name != "empty"]
INFO_KEYS = [
    "catalog_name",
    "catalog_type",
    "total_rows",
    "epoch",
    "ra_column",
    "dec_column",
    "primary_catalog",
    "margin_threshold",
]
PIXEL_TYPES = {"Norder": pa.uint8(), "Dir": pa.uint64(), "Npix": pa.uint64()}
MARGIN_FIELDS = [pa.field(f"margin_{name}", kind) for name, kind in PIXEL_TYPES.items()]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the catalogs, by name, and their margins, in margins."""
    return once(tmp_path_factory, "format", make_margins)


# --- as pandas sees it ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "zstd"])
def test_pandas_reads_the_index_as_such(name: str, directory: Path) -> None:
    for path in (directory / "margins" / name).rglob("*.parquet"):
        # pandas is kept from taking Norder=0 in the path for a column.
        frame = pd.read_parquet(path, partitioning=None)
        assert frame.index.name == "_hipscat_index" and frame.index.dtype == np.uint64
        assert frame.index.is_monotonic_increasing
        assert list(frame.columns[-3:]) == [field.name for field in MARGIN_FIELDS]


def test_pandas_gets_no_index_where_the_primary_has_none(directory: Path) -> None:
    path = next((directory / "margins" / "indexless").rglob("*.parquet"))
    assert b"pandas" not in (pq.read_schema(path).metadata or {})
    assert "_hipscat_index" in pd.read_parquet(path, partitioning=None).columns


# --- its descriptions -----------------------------------------------------------------------


@pytest.mark.parametrize("name", MARGINS)
def test_catalog_info_has_the_keys_of_hipscat(name: str, directory: Path) -> None:
    margin = directory / "margins" / name
    info = description(margin, "catalog_info.json")
    assert list(info) == INFO_KEYS
    assert info == {
        "catalog_name": name,
        "catalog_type": "margin",
        "total_rows": sum(file.metadata.num_rows for *_, file in files(margin)),
        "epoch": "J1991.25" if name == "empty" else "J2000",
        "ra_column": "ra",
        "dec_column": "dec",
        "primary_catalog": name,
        "margin_threshold": MARGINS[name],
    }


@pytest.mark.parametrize("name", MARGINS)
def test_provenance_says_how_it_was_made(name: str, directory: Path) -> None:
    margin = directory / "margins" / name
    provenance = description(margin, "provenance_info.json")
    assert list(provenance) == [*INFO_KEYS, "version", "generation_date", "tool_args"]
    assert {key: provenance[key] for key in INFO_KEYS} == description(margin, "catalog_info.json")
    assert provenance["version"].startswith("0.3.")
    assert re.fullmatch(r"\d{4}\.\d\d\.\d\d", provenance["generation_date"])
    tool = provenance["tool_args"]
    assert list(tool) == ["tool_name", "version", "runtime_args"]
    arguments = tool["runtime_args"]
    assert arguments["margin_threshold"] == MARGINS[name]
    assert arguments["input_catalog_path"] == name
    assert arguments["fine_filtering"] is True


@pytest.mark.parametrize("name", MARGINS)
def test_partition_info_lists_the_files_in_nested_order(name: str, directory: Path) -> None:
    margin = directory / "margins" / name
    with (margin / "partition_info.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["Norder", "Npix", "Dir"]
    listed = np.array(lines, dtype=np.int64).reshape(-1, 3)
    np.testing.assert_array_equal(listed[:, 2], listed[:, 1] // 10000 * 10000)
    assert sorted(map(tuple, listed[:, :2].tolist())) == sorted(
        (order, pixel) for order, pixel, _ in files(margin)
    )
    assert (np.diff(skies.pixel_spans(listed[:, :2])[0]) > 0).all()


@pytest.mark.parametrize("name", MARGINS)
def test_metadata_has_the_footers_of_all_files(name: str, directory: Path) -> None:
    margin = directory / "margins" / name
    metadata = pq.read_metadata(margin / "_metadata")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    paths = [group.column(0).file_path for group in groups]
    assert all(path.startswith("/Norder=") for path in paths)
    for order, pixel, file in files(margin):
        place = f"/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"
        there = [
            group.to_dict() for group, path in zip(groups, paths, strict=True) if path == place
        ]
        own = [file.metadata.row_group(n).to_dict() for n in range(file.num_row_groups)]
        for column in (column for group in there + own for column in group["columns"]):
            column["file_path"] = ""
        assert repr(there) == repr(own)  # repr because statistics can be NaN
    assert metadata.num_rows == description(margin, "catalog_info.json")["total_rows"]
    assert len(set(paths)) == len(list(files(margin)))


@pytest.mark.parametrize("name", MARGINS)
def test_all_schemas_are_the_same(name: str, directory: Path) -> None:
    margin = directory / "margins" / name
    common = pq.read_schema(margin / "_common_metadata")
    assert pq.read_metadata(margin / "_common_metadata").num_rows == 0
    assert pq.read_schema(margin / "_metadata").equals(common, check_metadata=True)
    for *_, file in files(margin):
        assert file.schema_arrow.equals(common, check_metadata=True)


# --- its rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILLED)
def test_rows_say_whose_they_are_and_where_they_come_from(name: str, directory: Path) -> None:
    margin, primary = directory / "margins" / name, directory / name
    partitions = {(order, pixel) for order, pixel, _ in files(primary)}
    orphans = 0
    for order, pixel, file in files(margin):
        rows = file.read()
        assert rows.num_rows > 0, "a destination without rows has a file"
        index = rows["_hipscat_index"].to_numpy()
        assert (index[1:] >= index[:-1]).all()
        assert set(rows["Norder"].to_pylist()) == {order}
        assert set(rows["Dir"].to_pylist()) == {pixel // 10000 * 10000}
        assert set(rows["Npix"].to_pylist()) == {pixel}
        source_order, group, source = (rows[f"margin_{part}"].to_numpy() for part in PIXEL_TYPES)
        assert set(zip(source_order.tolist(), source.tolist(), strict=True)) <= partitions
        np.testing.assert_array_equal(group, source // 10000 * 10000)
        shift = (2 * (19 - source_order.astype(np.int64)) + 22).astype(np.uint64)
        np.testing.assert_array_equal(index >> shift, source)
        assert not ((source_order == order) & (source == pixel)).any()
        orphans += (order, pixel) not in partitions
    if name == "plain":
        assert len(partitions) >= 12 and not orphans  # the sky has no holes


@pytest.mark.parametrize("name", MARGINS)
def test_columns_are_those_of_the_primary_and_three_more(name: str, directory: Path) -> None:
    margin = pq.read_schema(directory / "margins" / name / "_common_metadata")
    primary = pq.read_schema(next((directory / name).rglob("*.parquet")))
    expected = pa.schema([*primary, *MARGIN_FIELDS])
    assert margin.names == expected.names
    for field in expected:
        assert margin.field(field.name).equals(field, check_metadata=True)
    found, wanted = (dict(schema.metadata or {}) for schema in (margin, primary))
    found.pop(b"pandas", None), wanted.pop(b"pandas", None)
    assert found == wanted
    if name != "indexless":
        frame = (
            primary.empty_table()
            .to_pandas()
            .assign(**{f.name: pd.Series(dtype=f.type.to_pandas_dtype()) for f in MARGIN_FIELDS})
        )
        assert margin.pandas_metadata["index_columns"] == ["_hipscat_index"]
        ours = {column["name"]: column for column in margin.pandas_metadata["columns"]}
        theirs = pa.Schema.from_pandas(frame).pandas_metadata["columns"]
        assert list(ours) == [column["name"] for column in theirs]
        for field in MARGIN_FIELDS:
            assert ours[field.name] == next(c for c in theirs if c["name"] == field.name)


def values_of(table: pa.Table, column: str) -> list[str]:
    """Values as text, which tells NaN from null and -0.0 from 0.0, and finds NaN equal to NaN."""
    return [repr(value) for value in table[column].to_pylist()]


@pytest.mark.parametrize("name", FILLED)
def test_values_are_those_of_the_primary(name: str, directory: Path) -> None:
    margin, primary = directory / "margins" / name, directory / name
    sources = {(order, pixel): file.read() for order, pixel, file in files(primary)}
    home = {
        row: (pixel, at)
        for pixel, rows in sources.items()
        for at, row in enumerate(rows["id"].to_pylist())
    }
    values = {
        pixel: {column: values_of(rows, column) for column in rows.column_names}
        for pixel, rows in sources.items()
    }
    compared = nulls = 0
    for *_, file in files(margin):
        rows = file.read()
        places = [home[row] for row in rows["id"].to_pylist()]
        for column in rows.schema.names:
            if column in PIXEL_TYPES or column.startswith("margin_"):
                continue
            expected = [values[pixel][column][at] for pixel, at in places]
            assert values_of(rows, column) == expected, column
            compared += len(expected)
            nulls += expected.count("None")
    print(f"{name}: {compared} values compared, {nulls} of them null")
    assert compared > 1000 and (nulls > 1000 or name != "typed")


def test_typed_sky_has_all_types(directory: Path) -> None:
    schema = pq.read_schema(next((directory / "margins" / "typed").rglob("*.parquet")))
    assert len({str(field.type) for field in schema}) > 40
    assert sum(pa.types.is_dictionary(field.type) for field in schema) == 2
    assert schema.field("float32").metadata[b"unit"] == b"mag"
    assert schema.metadata[b"survey"].decode() == "Übersicht"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("plain", "SNAPPY"), ("zstd", "ZSTD"), ("typed", "GZIP")],
)
def test_files_are_compressed_as_the_primary(name: str, codec: str, directory: Path) -> None:
    for *_, file in files(directory / "margins" / name):
        columns = file.metadata.row_group(0).to_dict()["columns"]
        assert {column["compression"] for column in columns} == {codec}


def encodings(file: pq.ParquetFile) -> dict[str, set[str]]:
    columns = file.metadata.row_group(0).to_dict()["columns"]
    return {column["path_in_schema"]: set(column["encodings"]) for column in columns}


def test_columns_are_encoded_as_in_the_primary(directory: Path) -> None:
    """But those of numbers that hardly repeat, of which dictionaries make them larger."""
    (primary, *_) = (encodings(file) for *_, file in files(directory / "typed"))
    for *_, file in files(directory / "margins" / "typed"):
        found = encodings(file)
        assert len(found) > 40
        for path in ("ra", "dec"):
            assert "RLE_DICTIONARY" in primary[path]
            assert "RLE_DICTIONARY" not in found[path]
        kinds = {column.path: column.physical_type for column in file.schema}
        for path, kind in kinds.items():
            if kind not in ("FLOAT", "DOUBLE") and not path.startswith("margin_"):
                assert found[path] == primary[path], path


@pytest.mark.parametrize(("name", "most"), [("zstd", 70), ("typed", 40)])
def test_row_groups_are_no_larger_than_those_of_the_primary(
    name: str, most: int, directory: Path
) -> None:
    several = 0
    for *_, file in files(directory / "margins" / name):
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert all(rows == most for rows in groups[:-1]) and 0 < groups[-1] <= most
        several += len(groups) > 1
    assert several


def test_empty_margin_is_a_catalog_without_rows(directory: Path) -> None:
    margin = directory / "margins" / "empty"
    assert not list(margin.rglob("*.parquet"))
    names = {path.name for path in margin.iterdir()}
    assert names == {
        "_common_metadata",
        "_metadata",
        "catalog_info.json",
        "partition_info.csv",
        "provenance_info.json",
    }
    assert pq.read_metadata(margin / "_metadata").num_rows == 0
    assert (margin / "partition_info.csv").read_text(encoding="utf-8") == "Norder,Npix,Dir\n"


def test_views_of_strings_and_bytes_survive(tmp_path: Path) -> None:
    views = {"string_view": pa.string_view(), "binary_view": pa.binary_view()}
    primary = small_catalog(tmp_path / "views", rows=600, max_rows=400)
    for path in [*primary.rglob("*.parquet")]:
        rows = pq.ParquetFile(path).read()
        for name, kind in views.items():
            words = [
                None if row % 7 == 0 else f"long enough: {row}" for row in rows["id"].to_pylist()
            ]
            rows = rows.append_column(name, pa.array(words, pa.string()).cast(kind))
        pq.write_table(rows, path)
    for name in ("_metadata", "_common_metadata"):
        (primary / name).unlink()
    config = {"input_catalog_path": "views", "output_path": ".", "output_artifact_name": "margin"}
    make_in(tmp_path, {**config, "margin_threshold": 1800.0})
    compared = 0
    for *_, file in files(tmp_path / "margin"):
        rows = file.read()
        for name, kind in views.items():
            assert rows.schema.field(name).type == kind
        for row in rows.select(["id", *views]).to_pylist():
            word = None if row["id"] % 7 == 0 else f"long enough: {row['id']}"
            assert row["string_view"] == word
            assert row["binary_view"] == (word.encode() if word else None)
            compared += 1
    assert compared > 100


def test_partitions_may_differ_in_whether_a_column_may_have_nulls(tmp_path: Path) -> None:
    """As long as there are none where the catalog's schema says so."""
    primary = small_catalog(tmp_path / "primary", rows=600, max_rows=400)
    config = {"input_catalog_path": "primary", "output_path": ".", "margin_threshold": 1800.0}
    first, second = {"output_artifact_name": "first"}, {"output_artifact_name": "second"}
    make_in(tmp_path, {**config, **first})
    paths = sorted(primary.rglob("Npix=*.parquet"))
    for path in (primary / "_common_metadata", *paths[::2]):
        rows = pq.ParquetFile(path).read()
        schema = pa.schema(
            [field.with_nullable(field.name == "dec") for field in rows.schema],
            rows.schema.metadata,
        )
        pq.write_table(rows.cast(schema), path)
    make_in(tmp_path, {**config, **second})
    made = {(order, pixel): file.read() for order, pixel, file in files(tmp_path / "first")}
    again = {(order, pixel): file.read() for order, pixel, file in files(tmp_path / "second")}
    assert made.keys() == again.keys() and len(made) > 5
    for place, rows in made.items():
        assert again[place].to_pylist() == rows.to_pylist()
        assert not again[place].schema.field("ra").nullable

    rows = pq.ParquetFile(paths[1]).read()
    index = rows.schema.get_field_index("mag")
    rows = rows.set_column(index, "mag", pa.nulls(len(rows), pa.float32()))
    pq.write_table(rows, paths[1])
    finished = run_workflow(tmp_path, config={**config, "output_artifact_name": "third"})
    assert finished.returncode != 0
    assert "Column 'mag' is declared non-nullable but contains nulls" in finished.stdout
    assert "Traceback" not in finished.stdout


def test_nothing_is_left_beside_the_margins(directory: Path) -> None:
    assert {path.name for path in (directory / "margins").iterdir()} == set(MARGINS)
    assert ROOT not in directory.parents
