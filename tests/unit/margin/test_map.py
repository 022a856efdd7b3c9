"""A shard has the rows that are in margins, by destination, and nothing of a changed catalog."""

import json
from collections.abc import Callable
from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin import map as mapping
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import Margin
from support import oracle, skies
from support.full_disks import files_end_at
from support.margins import configuration
from support.shards import rows_in_shard
from support.small_skies import small_catalog
from support.stages import run_reduce_jobs
from support.write_hats import write_hats

Pairs = set[tuple[int, int]]


def pairs_of(margin: Margin) -> Pairs:
    """The ids of all rows in all shards, each with its destination."""
    found = []
    for job, name in enumerate(margin.plan.map_names):
        shard = margin.files.shard(name)
        map_partitions(margin.plan, job, shard)
        table = rows_in_shard(margin, shard)
        found += zip(table["id"].to_pylist(), table[0].to_pylist(), strict=True)
    assert len(found) == len(set(found))
    return set(found)


def expected_pairs(margin: Margin, threshold: float) -> Pairs:
    """What brute force finds, by the distance of each row to each destination; 0 inside."""
    plan = margin.plan
    pixels = np.stack([plan.destination_orders, plan.destination_pixels], axis=1)
    found = set()
    for own, (pixel, _) in enumerate(plan.partitions):
        path = plan.parameters.catalog.partition_name(pixel)
        rows = pq.read_table(path, partitioning=None)
        ra, dec, ids = (rows[name].to_numpy() for name in ("ra", "dec", "id"))
        vectors = healpy.ang2vec(ra, dec, lonlat=True)
        for destination, other in enumerate(pixels):
            if plan.destination_partitions[destination] == own:
                continue
            side, pixel = 2 ** int(other[0]), int(other[1])
            # The oracle takes its time: not for rows that are farther than the pixel's corners.
            radius = healpy.max_pixrad(side) + np.radians((threshold + 1) / 3600)
            centre = np.array(healpy.pix2vec(side, pixel, nest=True))
            row = np.flatnonzero(vectors @ centre >= np.cos(min(radius, np.pi)))
            at = np.repeat(other[:, None], len(row), 1)
            distances = oracle.exact_distances(ra[row], dec[row], *at)
            inside = healpy.ang2pix(side, ra[row], dec[row], nest=True, lonlat=True) == pixel
            near = row[(distances <= threshold) | inside]
            found |= {(ids[int(one)], destination) for one in near}
    return found


def test_shards_have_the_rows_that_brute_force_finds(prepare: Callable[..., Margin]) -> None:
    margin = prepare(margin_threshold=300.0)
    found = pairs_of(margin)
    assert found == expected_pairs(margin, 300.0)
    assert len(found) > 50


@pytest.mark.parametrize(
    ("threshold", "has_index"),
    [
        *((0.01, True), (0.5, False), (2.0, True)),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in ((0.01, False), (0.5, True), (2.0, False))
        ),
    ],
)
def test_rows_with_tolerated_index_errors_are_found(
    tmp_path: Path, prepare: Callable[..., Margin], threshold: float, has_index: bool
) -> None:
    """By as much as is accepted. Their index may be of cells that are far from the border, and
    their place inside another partition, where it is farther from the boundary than the threshold.
    """
    sky = small_catalog(tmp_path / "moved", rows=3000)
    if not has_index:
        files = sorted(sky.rglob("Npix=*.parquet"))
        table = pa.concat_tables(pq.read_table(file, partitioning=None) for file in files)
        table = table.select(["id", "ra", "dec", "mag"])
        partitions = skies.adaptive_partitions(
            table["ra"].to_numpy(), table["dec"].to_numpy(), max_rows=500
        )
        write_hats(tmp_path, "without", table, partitions, index_column=None)
        sky = tmp_path / "without"
    rng = np.random.default_rng(5)
    for path in sky.rglob("Npix=*.parquet"):
        table = pq.read_table(path, partitioning=None)
        off = np.full(table.num_rows, 4.9 * skies.ARCSEC)
        moved = skies.offset_positions(table["ra"].to_numpy(), table["dec"].to_numpy(), off, rng)
        for name, values in zip(("ra", "dec"), moved, strict=True):
            column = table.schema.get_field_index(name)
            table = table.set_column(column, table.schema.field(column), pa.array(values))
        pq.write_table(table, path)
    margin = prepare(input_catalog_path=sky, margin_threshold=threshold)
    found = pairs_of(margin)
    assert found == expected_pairs(margin, threshold)
    assert len(found) > 100


def test_without_the_exact_filter_shards_have_more_rows(prepare: Callable[..., Margin]) -> None:
    assert pairs_of(prepare(fine_filtering=False, margin_order=6)) > pairs_of(prepare())


@pytest.mark.parametrize(
    "limit", ["_WINDOW_PAIRS", "_WINDOW_FILES", "_MOST_PAIRS", "SHARD_BUFFER_BYTES"]
)
def test_batches_do_not_change_the_rows(
    prepare: Callable[..., Margin], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    margin = prepare()
    whole = pairs_of(margin)
    monkeypatch.setattr(mapping, limit, 1)
    assert pairs_of(margin) == whole


def test_a_partition_that_changes_after_planning_makes_no_shard(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    margin = prepare()
    path = min(catalog.rglob("Npix=*.parquet"))
    path.write_bytes(path.read_bytes() + b"PAR1")
    shards = [margin.files.shard(name) for name in margin.plan.map_names]
    with pytest.raises(MarginCacheError, match="was changed after the run began"):
        for job, shard in enumerate(shards):
            map_partitions(margin.plan, job, shard)
    assert not all(shard.exists() for shard in shards)


def test_a_full_disk_is_reported_with_the_shard(prepare: Callable[..., Margin]) -> None:
    margin = prepare(margin_threshold=300.0)
    shard = margin.files.shard(margin.plan.map_names[0])
    with pytest.raises(OSError) as caught, files_end_at(2000):
        map_partitions(margin.plan, 0, shard)
    assert (caught.value.filename, caught.value.strerror) == (str(shard), "File too large")
    assert not shard.exists()


@pytest.mark.parametrize("reading", ["all", "selected"])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_partition_rewritten_while_it_is_read_makes_no_shard(
    catalog: Path,
    prepare: Callable[..., Margin],
    monkeypatch: pytest.MonkeyPatch,
    reading: str,
    is_damaged: bool,
) -> None:
    """Also if it is read later than the next ones are, and if it cannot be read any more."""
    margin = prepare()
    first = str(catalog / margin.plan.files_of(0)[0])
    name = "find_candidates" if reading == "all" else "select_rows"
    original = getattr(mapping, name)

    def and_rewrite(*arguments: object) -> object:
        with Path(first).open("r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(bytes(len(content)) if is_damaged else content)
        return original(*arguments)

    monkeypatch.setattr(mapping, name, and_rewrite)
    shard = margin.files.shard(margin.plan.map_names[0])
    with pytest.raises(MarginCacheError, match=f"{first}: was changed after the run began"):
        map_partitions(margin.plan, 0, shard)
    assert list(shard.parent.iterdir()) == []


def test_nulls_in_a_column_that_is_not_nullable_are_refused(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    common = catalog / "_common_metadata"
    schema = pq.read_schema(common)
    strict = pa.schema([field.with_nullable(field.name != "mag") for field in schema])
    pq.write_metadata(strict.with_metadata(schema.metadata), common)
    for path in catalog.rglob("Npix=*.parquet"):
        table = pq.read_table(path, partitioning=None)
        nulls = pa.nulls(table.num_rows, table["mag"].type)
        table = table.set_column(table.schema.get_field_index("mag"), "mag", nulls)
        pq.write_table(table, path)
    margin = prepare()
    with pytest.raises(MarginCacheError, match=r"\(Column 'mag' is declared non-nullable"):
        pairs_of(margin)
        run_reduce_jobs(margin)


@pytest.mark.parametrize("fine", [True, False])
def test_coordinates_that_contradict_the_index_make_no_shard(
    catalog: Path, prepare: Callable[..., Margin], fine: bool
) -> None:
    path = catalog / "catalog_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "dec_column": "mag"}))
    margin = prepare(fine_filtering=fine)
    shard = margin.files.shard(margin.plan.map_names[0])
    with pytest.raises(MarginCacheError, match="Check that these are the right columns"):
        map_partitions(margin.plan, 0, shard)
    assert not shard.exists()


def test_configuration_of_these_tests_has_rows_in_margins(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    assert len(pairs_of(prepare())) > 20
    assert configuration(catalog)["margin_threshold"] == 60.0
