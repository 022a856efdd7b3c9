import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from margin_cache.audit import catalogs
from margin_cache.audit.catalogs import AuditedCatalog, open_catalog
from margin_cache.audit.compare import row_digests
from margin_cache.audit.files import UnreadableFile, open_location
from margin_cache.errors import MarginCacheError
from support.paths import ROOT


@pytest.mark.parametrize("name", ["hipparcos", "hipparcos_hats"])
def test_both_formats_are_opened_by_their_readers(name: str) -> None:
    catalog = open_catalog(str(ROOT / "demo" / name))
    rows = sum(catalog.count(pixel) for pixel in catalog.pixels)
    assert rows == catalog.rows > 0
    assert catalog.threshold is None


def test_a_collection_is_opened_as_its_primary(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "demo" / "hipparcos_hats", tmp_path / "table")
    lines = ["obs_collection=sky", "hats_primary_table_url=table", ""]
    (tmp_path / "collection.properties").write_text("\n".join(lines))
    catalog = open_catalog(str(tmp_path))
    assert catalog.root == tmp_path / "table" / "dataset"
    assert sum(map(catalog.count, catalog.pixels)) == catalog.rows


def test_a_directory_that_is_no_catalog_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match="cannot be opened as a HATS catalog"):
        open_catalog(str(tmp_path))


@pytest.mark.parametrize("name", ["hipparcos", "hipparcos_hats"])
def test_a_listed_pixel_that_does_not_exist_is_an_error(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "demo" / name, tmp_path / "sky")
    for file in (tmp_path / "sky").rglob("_metadata"):
        file.unlink()
    for file in (tmp_path / "sky").rglob("partition_info.csv"):
        columns = file.read_text().splitlines()[0].split(",")
        values = {"Norder": "1", "Npix": "48"}
        line = ",".join(values.get(column, "0") for column in columns)
        file.write_text(f"{file.read_text().rstrip()}\n{line}\n")
    with pytest.raises(MarginCacheError, match=r"a pixel Norder=1, Npix=48, which does not exist"):
        open_catalog(str(tmp_path / "sky"))


@pytest.fixture
def parted(tmp_path: Path) -> AuditedCatalog:
    """A catalog with a partition of three files, of several row groups each."""
    catalog = AuditedCatalog(tmp_path, [(1, 4)], "/", None, 30, None, ("ra", "dec"))
    for number in range(3):
        values = range(10 * number, 10 * number + 10)
        path = catalog.path((1, 4)) / f"part{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"a": values, "b": values}), path, row_group_size=3)
    return catalog


@pytest.mark.parametrize("batch_bytes", [1, 100, 10**9])
@pytest.mark.parametrize("selected", [[], [0], [29], [2, 3, 9, 10, 21], list(range(30))])
def test_selected_rows_are_read_from_several_files(
    parted: AuditedCatalog,
    selected: list[int],
    batch_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogs, "BATCH_BYTES", batch_bytes)
    rows = parted.read((1, 4), ["b"])
    assert parted.count((1, 4)) == len(rows) == 30
    digests = parted.digests((1, 4), ["b"], np.isin(np.arange(30), selected))
    assert np.array_equal(digests, row_digests(rows, ["b"])[selected])


def test_values_are_compared_with_the_types_that_the_catalog_states(
    parted: AuditedCatalog,
) -> None:
    """As LSDB reads files whose columns have other types, or are null throughout."""
    structs = pa.array([{"x": 1, "y": "a"}, None])
    stated = {
        "n": pa.array([5, None], pa.int64()),
        "t": pa.array([1000, None], pa.timestamp("us")),
        "s": structs,
        "z": pa.nulls(2, pa.string()),
    }
    table = pa.table(stated)
    pq.write_metadata(table.schema, parted.root / "_common_metadata")
    other = {
        "z": pa.nulls(2),
        "s": structs.cast(pa.struct([("y", pa.large_string()), ("x", pa.int8())])),
        "t": stated["t"].cast(pa.timestamp("ns")),
        "n": stated["n"].cast(pa.float64()),
    }
    for path in parted.files((1, 4)):
        pq.write_table(pa.table(other), path)
    digests = parted.digests((1, 4), table.column_names, np.ones(6, bool))
    assert np.array_equal(digests, np.tile(row_digests(table, table.column_names), 3))


def test_files_that_are_missing_or_damaged_are_named(parted: AuditedCatalog) -> None:
    (parted.path((1, 4)) / "part1.parquet").write_bytes(b"PAR1")
    for read in (
        parted.count,
        lambda pixel: parted.read(pixel, ["b"]),
        lambda pixel: parted.digests(pixel, ["b"], np.ones(30, bool)),
    ):
        with pytest.raises(MarginCacheError, match=r"part1.parquet: cannot be read"):
            read((1, 4))
    for read in (parted.count, parted.schemas):
        with pytest.raises(MarginCacheError, match="Npix=5: no files found"):
            read((1, 5))


def test_of_a_directory_the_files_are_read_that_pyarrow_reads(parted: AuditedCatalog) -> None:
    directory = parted.path((1, 4))
    for name in ("sub/part0.parquet", "sub/_part.parquet", "_part.parquet", "_sub/part.parquet"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes((directory / "part0.parquet").read_bytes())
    for name in ("_SUCCESS", ".part.crc"):
        (directory / name).touch()
    expected = pyarrow.dataset.dataset(str(directory)).files
    assert list(map(str, parted.files((1, 4)))) == sorted(expected)
    assert parted.count((1, 4)) == 40
    fsspec.filesystem("memory").put(str(parted.root), "/parted", recursive=True)
    at_url = replace(parted, root=open_location("memory://parted"))
    names = [path.relative_to(parted.root) for path in parted.files((1, 4))]
    assert at_url.files((1, 4)) == [at_url.root / str(name) for name in names]
    assert at_url.count((1, 4)) == 40


def test_columns_that_are_missing_or_doubled_in_one_file_are_named(parted: AuditedCatalog) -> None:
    for names, fault in ((["a"], "no column b"), (["a", "b", "b"], "several columns b")):
        table = pa.Table.from_arrays([pa.array(range(10))] * len(names), names)
        pq.write_table(table, parted.path((1, 4)) / "part1.parquet")
        with pytest.raises(UnreadableFile, match=f"part1.parquet: {fault}"):
            parted.read((1, 4), ["b"])
        with pytest.raises(UnreadableFile, match=f"part1.parquet: {fault}"):
            parted.digests((1, 4), ["b"], np.ones(30, bool))
    pq.write_table(pa.table({"b": ["x"] * 10}), parted.path((1, 4)) / "part1.parquet")
    with pytest.raises(UnreadableFile, match="Npix=4: its files do not match"):
        parted.read((1, 4), ["b"])
