"""A reduce job writes a file for each destination with rows, and a receipt that lists them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog import hipscat
from margin_cache.errors import MarginCacheError
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import Margin
from margin_cache.margin.reduce import _take, reduce_margins
from margin_cache.storage.files import file_digest
from support.changed_catalogs import rewrite_partitions
from support.full_disks import files_end_at
from support.margins import tree_digest
from support.shards import rows_in_shard
from support.small_skies import small_catalog
from support.stages import run_map_jobs, run_reduce_jobs


@pytest.fixture
def mapped(prepare: Callable[..., Margin]) -> Margin:
    margin = prepare(margin_threshold=300.0)
    run_map_jobs(margin)
    return margin


def rows_in_shards(margin: Margin) -> dict[str, list[int]]:
    """The ids in the shards, by the path of the file that they belong into."""
    found: dict[str, list[int]] = {}
    for shard in sorted(margin.files.shards_dir.iterdir()):
        table = rows_in_shard(margin, shard)
        for destination, identity in zip(table[0].to_pylist(), table["id"].to_pylist()):
            found.setdefault(margin.plan.margin_path(destination), []).append(identity)
    return found


def test_files_have_the_rows_of_the_shards_sorted_by_the_index(mapped: Margin) -> None:
    run_reduce_jobs(mapped)
    expected = rows_in_shards(mapped)
    assert tree_digest(mapped.files.staging_dir).keys() == expected.keys()
    for path, ids in expected.items():
        table = pq.read_table(mapped.files.staging_dir / path, partitioning=None)
        assert sorted(table["id"].to_pylist()) == sorted(ids)
        assert (np.diff(table["_hipscat_index"].to_numpy().astype(object)) >= 0).all()


def test_receipts_list_rows_size_and_digest_of_all_files(mapped: Margin) -> None:
    run_reduce_jobs(mapped)
    listed = {}
    for name in mapped.plan.reduce_names:
        receipt = json.loads(mapped.files.receipt(name).read_text())
        assert receipt["footers"] == mapped.files.footers(name).stat().st_size
        assert receipt["footers_digest"] == file_digest(mapped.files.footers(name))
        listed |= receipt["files"]
        footers = pq.read_metadata(mapped.files.footers(name))
        assert footers.num_rows == sum(rows for rows, _, _ in receipt["files"].values())
    files = [path for path in mapped.files.staging_dir.rglob("*") if path.is_file()]
    assert listed == {
        path.relative_to(mapped.files.staging_dir).as_posix(): [
            pq.read_metadata(path).num_rows,
            path.stat().st_size,
            file_digest(path),
        ]
        for path in files
    }


def test_receipts_of_an_older_state_are_deleted(mapped: Margin) -> None:
    older = mapped.files.receipt("00000-0123456789")
    older.parent.mkdir()
    older.touch()
    reduce_margins(mapped.plan, 0, mapped.files, mapped.files.staging_dir)
    assert not older.exists()
    assert mapped.files.receipt(mapped.plan.reduce_names[0]).exists()


class TooLarge:
    """A column of more bytes than PyArrow joins."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column, self.chunks, self.type = column, column.chunks, column.type

    def take(self, order: pa.Array) -> pa.ChunkedArray:
        raise pa.ArrowInvalid("offset overflow while concatenating arrays")


@pytest.mark.parametrize("sizes", [(1, 1), (3, 0, 2), (70, 1, 0, 129), (0, 40)])
def test_rows_of_a_column_that_pyarrow_does_not_join_are_sorted_in_parts(
    sizes: tuple[int, ...],
) -> None:
    words = iter(range(sum(sizes)))
    chunks = [pa.array([f"word {next(words)}" for _ in range(size)], "string") for size in sizes]
    column = pa.chunked_array(chunks)
    order = np.random.default_rng(3).permutation(len(column))
    taken = _take(TooLarge(column), order)
    assert taken.equals(column.take(pa.array(order)))
    assert taken.num_chunks == min(16, len(column))
    assert _take(column, order).num_chunks == 1
    with pytest.raises(pa.ArrowInvalid, match="offset overflow"):
        _take(TooLarge(column), order[:1])


def test_a_truncated_shard_is_named(mapped: Margin) -> None:
    shard = mapped.files.shard(mapped.plan.map_names[0])
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(MarginCacheError, match=f"{shard}: was damaged. Start the run again"):
        run_reduce_jobs(mapped)


def test_a_shard_with_a_damaged_block_is_named_and_made_again(mapped: Margin) -> None:
    shard = mapped.files.shard(mapped.plan.map_names[0])
    content = shard.read_bytes()
    shard.write_bytes(bytes(100) + content[100:])
    with pytest.raises(MarginCacheError, match=f"{shard}: was damaged. Start the run again"):
        run_reduce_jobs(mapped)
    map_partitions(mapped.plan, 0, shard)
    assert shard.read_bytes() == content
    run_reduce_jobs(mapped)


@pytest.mark.parametrize("size", [0, 1000, 4000])
def test_a_full_disk_is_reported_with_the_file(size: int, mapped: Margin) -> None:
    """At its beginning, and later."""
    with pytest.raises(OSError) as caught, files_end_at(size):
        run_reduce_jobs(mapped)
    assert Path(caught.value.filename).is_relative_to(mapped.files.staging_dir)
    assert Path(caught.value.filename).suffix == ".parquet"
    assert caught.value.strerror == "File too large"
    assert not mapped.files.receipt(mapped.plan.reduce_names[0]).exists()
    run_reduce_jobs(mapped)


def run_and_digest(margin: Margin) -> dict[str, str]:
    run_reduce_jobs(margin)
    return tree_digest(margin.files.staging_dir)


COARSE = {"fine_filtering": False}


@pytest.mark.parametrize(
    ("wider", "narrower"),
    [
        ({"margin_threshold": 3000.0}, {"margin_threshold": 300.0}),
        ({"margin_threshold": 300.0}, {"margin_threshold": 300.0}),
        (COARSE | {"margin_order": 5}, {"margin_threshold": 300.0}),
        (COARSE | {"margin_order": 3}, COARSE | {"margin_order": 6}),
    ],
)
def test_files_from_the_shards_of_a_wider_margin_are_those_from_its_own(
    prepare: Callable[..., Margin], wider: dict[str, float], narrower: dict[str, float]
) -> None:
    wide, margin = prepare(**wider), prepare(output_artifact_name="narrower", **narrower)
    assert wide.plan.has_rows_of(margin.plan)
    run_map_jobs(margin)
    own = run_and_digest(margin)
    assert len(own) > 10
    run_map_jobs(wide)
    shutil.rmtree(margin.files.staging_dir)
    shutil.rmtree(margin.files.shards_dir)
    for job in range(len(margin.plan.reduce_names)):
        staging_dir = margin.files.staging_dir
        reduce_margins(margin.plan, job, margin.files, staging_dir, wide.files)
    assert tree_digest(margin.files.staging_dir) == own


@pytest.mark.parametrize(
    ("wider", "narrower"),
    [
        ({"margin_threshold": 300.0}, {"margin_threshold": 301.0}),
        ({"margin_threshold": 3000.0}, COARSE | {"margin_order": 9}),
        (COARSE | {"margin_order": 6}, COARSE | {"margin_order": 5}),
        (COARSE | {"margin_order": 9}, {"margin_threshold": 3000.0}),
        ({}, {"partitions_per_job": 5}),
        ({"debug_filter_pixel_list": [[0, 4]]}, {}),
    ],
)
def test_shards_do_not_have_the_rows_of_a_wider_margin_or_of_other_jobs(
    prepare: Callable[..., Margin], wider: dict[str, Any], narrower: dict[str, Any]
) -> None:
    assert not prepare(**wider).plan.has_rows_of(prepare(**narrower).plan)


def test_columns_of_floats_have_no_dictionaries(mapped: Margin) -> None:
    run_reduce_jobs(mapped)
    path = next(path for path in mapped.files.staging_dir.rglob("*.parquet"))
    group = pq.read_metadata(path).row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        is_float = column.physical_type in ("FLOAT", "DOUBLE")
        assert column.has_dictionary_page != is_float, column.path_in_schema


WORDS = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize("kind", [WORDS, pa.list_(WORDS), pa.struct({"word": WORDS})], ids=str)
def test_files_have_dictionaries_of_their_own_categories(
    kind: pa.DataType, tmp_path: Path, prepare: Callable[..., Margin]
) -> None:
    catalog = small_catalog(tmp_path / "larger", rows=2000, max_rows=100)

    def value(row: int, number: int) -> object:
        word = f"{number} {row % 5}"
        nested = {"list": [word, None], "struct": {"word": word}}
        return nested.get(str(kind).partition("<")[0], word)

    def edit(rows: pa.Table, number: int) -> pa.Table:
        values = [value(row, number) for row in rows["id"].to_pylist()]
        return rows.append_column("words", pa.array(values, kind))

    expected = {
        row["id"]: row["words"]
        for path in rewrite_partitions(catalog, edit)
        for row in pq.ParquetFile(path).read(["id", "words"]).to_pylist()
    }
    margin = prepare(input_catalog_path=catalog, margin_threshold=36_000)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    for path in margin.files.staging_dir.rglob("*.parquet"):
        file = pq.ParquetFile(path)
        assert file.schema_arrow.field("words").type == kind
        rows = file.read()
        assert rows["words"].to_pylist() == [expected[row] for row in rows["id"].to_pylist()]
        assert (np.diff(rows["_hipscat_index"].to_numpy().astype(object)) >= 0).all()


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.int64()], ids=str
)
def test_pixels_are_named_in_the_type_of_the_primary(
    kind: pa.DataType, catalog: Path, prepare: Callable[..., Margin]
) -> None:
    def edit(rows: pa.Table, number: int) -> pa.Table:
        place = rows.schema.get_field_index("Npix")
        words = rows["Npix"].cast(pa.string() if pa.types.is_dictionary(kind) else kind)
        column = words.dictionary_encode() if pa.types.is_dictionary(kind) else words
        return rows.set_column(place, "Npix", column)

    rewrite_partitions(catalog, edit)
    margin = prepare(margin_threshold=300.0)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    for path in margin.files.staging_dir.rglob("*.parquet"):
        rows = pq.ParquetFile(path).read()
        assert rows.schema.field("Npix").type == kind
        assert {str(pixel) for pixel in rows["Npix"].to_pylist()} == {path.stem.split("=")[1]}


def test_a_type_too_small_for_a_pixel_is_named(
    catalog: Path, prepare: Callable[..., Margin], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those beside a partition may be, which are as if the orders were higher."""

    def edit(rows: pa.Table, number: int) -> pa.Table:
        place = rows.schema.get_field_index("Npix")
        return rows.set_column(place, "Npix", rows["Npix"].cast(pa.int8()))

    rewrite_partitions(catalog, edit)
    margin = prepare(margin_threshold=300.0)
    run_map_jobs(margin)
    own = hipscat.pixel_columns

    def of_higher_order(*pixels: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        columns = own(*pixels)
        return {**columns, "Npix": columns["Npix"] + 1000}

    monkeypatch.setattr(hipscat, "pixel_columns", of_higher_order)
    with pytest.raises(MarginCacheError, match=r"do not fit the columns of the catalog \(Integer"):
        run_reduce_jobs(margin)


def test_files_are_the_same_however_many_destinations_are_sorted_together(
    mapped: Margin, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = run_and_digest(mapped)
    for size in (1, 2000):
        monkeypatch.setattr("margin_cache.margin.reduce._BLOCK_BYTES", size)
        assert run_and_digest(mapped) == together
    assert len(together) > 3
