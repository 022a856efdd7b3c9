"""What jobs ask for follows from the sizes of their files, and grows with the attempt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.prepare import prepare_margins
from margin_cache.parquet import row_selection
from margin_cache.planning.jobs import (
    Request,
    RowGroupSize,
    audit_pixels_request,
    audit_request,
    finish_request,
    largest_row_group,
    map_request,
    reduce_request,
)
from margin_cache.planning.model import Plan
from support.small_skies import small_catalog

GROUP = RowGroupSize(columns=100, rows=1_000_000, size_mb=400.0, read_mb=100.0, expansion=1.5)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=3000, max_rows=500)


def plan_of(
    catalog: Path, directory: Path, megabytes: float | None = 300.0, **changes: Any
) -> Plan:
    """The plan of a margin of a catalog, as if each partition had a size, if one is given."""
    config = {
        "input_catalog_path": str(catalog),
        "tmp_dir": str(directory / "tmp"),
        "output_path": str(directory / "results"),
        **changes,
    }
    (margin,) = prepare_margins(settings_of_margins(config))
    if megabytes is not None:
        margin.plan.partitions.sizes[:] = round(megabytes * 1e6)
    return margin.plan


def test_memory_and_time_are_proportional_to_the_attempt():
    request = Request(mem_mb=500, disk_mb=20, runtime=15)
    assert request.at(1) == request
    assert request.at(3) == Request(mem_mb=1500, disk_mb=20, runtime=45)


def test_memory_of_a_map_job_grows_with_its_largest_partition_not_with_their_number(
    tmp_path: Path, catalog: Path
):
    one, ten, half = (
        map_request(plan_of(catalog, tmp_path, megabytes, partitions_per_job=number), 0, GROUP)
        for number, megabytes in ((1, 300.0), (10, 300.0), (1, 150.0))
    )
    assert one.mem_mb <= ten.mem_mb < 1.1 * one.mem_mb
    assert half.mem_mb < one.mem_mb
    assert ten.runtime > one.runtime
    assert ten.disk_mb >= one.disk_mb


def test_small_row_groups_need_less_memory(tmp_path: Path, catalog: Path):
    plan = plan_of(catalog, tmp_path)
    small = RowGroupSize(columns=100, rows=50_000, size_mb=20.0, read_mb=8.0, expansion=1.5)
    assert map_request(plan, 0, small).mem_mb < map_request(plan, 0, GROUP).mem_mb * 0.55


def test_a_map_job_asks_for_the_columns_that_it_reads_at_once(tmp_path: Path, catalog: Path):
    plan = plan_of(catalog, tmp_path)
    fewer = replace(GROUP, read_mb=GROUP.read_mb / 2)
    assert map_request(plan, 0, fewer).mem_mb < map_request(plan, 0, GROUP).mem_mb
    # They are no larger than the partitions of the job.
    small = plan_of(catalog, tmp_path, GROUP.read_mb / 2)
    assert map_request(small, 0, fewer).mem_mb == map_request(small, 0, GROUP).mem_mb


def test_a_reduce_job_asks_for_no_more_than_the_shards_that_it_needs(tmp_path: Path, catalog: Path):
    plan = plan_of(catalog, tmp_path, partitions_per_job=1)
    empty = reduce_request(plan, 0, 0)
    some = reduce_request(plan, 0, 2 * 10**9)
    assert 0 < some.mem_mb - empty.mem_mb <= 3000
    assert some.runtime > empty.runtime


def test_finishing_asks_for_more_if_it_sends_the_files(tmp_path: Path, catalog: Path):
    more = []
    for megabytes in (300.0, 300e6):
        plan = plan_of(catalog, tmp_path, megabytes)
        kept, sent = (finish_request(plan, GROUP, is_sent) for is_sent in (False, True))
        more.append((sent.mem_mb - kept.mem_mb, sent.runtime - kept.runtime))
    (small, _), (large, minutes) = more
    assert 240 <= small <= 250
    # Eight files are sent together, and in memory; a margin is some 1e-4 of its partition.
    assert 8 * 300e6 * 1e-5 < large < 8 * 300e6 * 1e-3
    assert minutes > 0


def test_finishing_asks_for_more_with_more_columns(tmp_path: Path, catalog: Path):
    plan = plan_of(catalog, tmp_path)
    wide = RowGroupSize(columns=50_000, rows=1, size_mb=1.0, read_mb=1.0, expansion=1.0)
    assert finish_request(plan, wide).mem_mb > finish_request(plan, GROUP).mem_mb


def test_finishing_asks_for_more_if_hats_makes_optional_files(tmp_path: Path, catalog: Path):
    plan = plan_of(catalog, tmp_path)
    more = replace(plan.parameters, optional_files=["create_summary_md"])
    few, many = (finish_request(each, GROUP) for each in (plan, replace(plan, parameters=more)))
    assert many.mem_mb >= few.mem_mb + 270
    assert many.runtime > few.runtime


def test_the_largest_row_group_is_that_of_the_largest_partition(tmp_path: Path):
    rows = 3000
    lists = pa.array([[1.0, 2.0]] * rows)
    path = small_catalog(
        tmp_path / "sky", rows=rows, max_rows=500, columns={"f": lists}, row_group_size=100
    )
    group = largest_row_group(plan_of(path, tmp_path, None))
    # id, ra, dec, mag, the items of f, and the four that the format adds.
    assert (group.columns, group.rows) == (9, 100)
    assert 0 < group.size_mb < 0.1
    assert group.read_mb == group.size_mb  # all columns at once
    assert 1 < group.expansion < 2


def test_columns_that_are_read_at_once_are_small_or_a_single_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(row_selection, "_LEAST_BYTES", 8 * 10**6)
    lists = pa.array([[float(number)] * 1000 for number in range(4000)])
    columns = {"f": lists, "g": pa.array(np.random.default_rng(1).random(4000))}
    path = small_catalog(tmp_path / "sky", rows=4000, max_rows=4000, columns=columns)
    group = largest_row_group(plan_of(path, tmp_path, None))
    assert group.read_mb == group.size_mb < 8
    values = np.random.default_rng(2).random(4000 * 2000)
    lists = pa.ListArray.from_arrays(np.arange(0, 8_000_001, 2000, dtype=np.int32), values)
    path = small_catalog(tmp_path / "wide", rows=4000, max_rows=4000, columns={"f": lists})
    group = largest_row_group(plan_of(path, tmp_path, None))
    assert 8 < group.read_mb < group.size_mb


def test_a_damaged_partition_does_not_prevent_a_request(tmp_path: Path):
    path = small_catalog(tmp_path / "sky", rows=3000, max_rows=500)
    plan = plan_of(path, tmp_path, None)
    for file in path.rglob("Npix=*.parquet"):
        file.write_bytes(b"PAR1" + b"x" * 100 + b"PAR1")
    size = plan.partitions.sizes.max() / 1e6
    assert largest_row_group(plan).size_mb == size


def test_jobs_of_an_audit_ask_for_more_for_larger_catalogs(catalog: Path, tmp_path: Path) -> None:
    small, large = (plan_of(catalog, tmp_path, megabytes) for megabytes in (30.0, 3000.0))
    one, other = (audit_pixels_request(plan, GROUP, 10) for plan in (small, large))
    assert one.mem_mb < other.mem_mb
    assert one.runtime < other.runtime < audit_pixels_request(large, GROUP, 5).runtime
    wider = replace(GROUP, size_mb=800.0)
    assert audit_pixels_request(small, wider, 10).mem_mb > one.mem_mb
    found = [audit_request(size) for size in (0, 10**8)]
    assert found[0].mem_mb < found[1].mem_mb and found[0].runtime < found[1].runtime
