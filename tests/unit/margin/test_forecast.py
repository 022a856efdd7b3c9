"""The forecast of a margin follows from its plan and from some footers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.partitions import read_partitions
from margin_cache.margin.forecast import FileSizes, file_sizes, forecast
from margin_cache.planning.jobs import largest_row_group
from margin_cache.planning.model import Plan
from support.changed_catalogs import rewrite_partitions
from support.paths import ROOT
from support.plans import PARAMETERS, make_plan, partitions_of
from support.small_skies import small_catalog

SIZES = FileSizes(row=50.0, memory=100.0, footer=1000.0, fixed=2000.0)


@pytest.fixture
def plan() -> Plan:
    return make_plan(replace(PARAMETERS, partitions_per_job=3), partitions_of(4))


def jobs(plan: Plan, *done: int) -> tuple[np.ndarray, np.ndarray]:
    """Which jobs are done: those of some numbers, map and reduce jobs alike."""
    masks = np.zeros(len(plan.map_names), bool), np.zeros(len(plan.reduce_names), bool)
    for mask in masks:
        mask[list(done)] = True
    return masks


def test_pixels_and_jobs_are_counted(plan):
    expected = forecast(plan, SIZES, *jobs(plan))
    assert expected.partitions == len(plan.partitions.orders)
    assert expected.destinations == len(plan.destination_orders)
    assert expected.negative_pixels == expected.destinations - expected.partitions > 0
    assert expected.map_jobs == len(plan.map_names)
    assert expected.reduce_jobs == len(plan.reduce_names)
    assert expected.read == plan.partitions.sizes.sum()


def test_finished_jobs_are_left_out(plan):
    whole = forecast(plan, SIZES, *jobs(plan))
    rest = forecast(plan, SIZES, *jobs(plan, 0))
    assert rest.read == plan.partitions.sizes[3:].sum()
    assert (rest.map_jobs, rest.reduce_jobs) == (whole.map_jobs - 1, whole.reduce_jobs - 1)
    assert (rest.rows, rest.size) == (whole.rows, whole.size)
    assert rest.output < whole.output == whole.size
    assert rest.intermediate < whole.intermediate
    nothing = forecast(plan, SIZES, *(~mask for mask in jobs(plan)))
    assert (nothing.read, nothing.intermediate) == (0, 0)


def test_rows_grow_with_the_threshold_and_size_with_them(plan):
    ten = replace(plan, parameters=replace(plan.parameters, threshold=100.0))
    first, second = (forecast(each, SIZES, *jobs(each)) for each in (plan, ten))
    assert second.rows == pytest.approx(10 * first.rows, rel=0.1)
    assert second.size > first.size
    assert second.intermediate > first.intermediate


def test_without_metadata_a_margin_is_smaller(plan):
    without = replace(plan, parameters=replace(plan.parameters, create_metadata=False))
    whole = forecast(plan, SIZES, *jobs(plan))
    assert forecast(without, SIZES, *jobs(plan)).size < whole.size


def plan_of(catalog: Path) -> Plan:
    info = read_catalog_info(str(catalog))
    return make_plan(replace(PARAMETERS, catalog=info, threshold=600.0), read_partitions(info))


@pytest.mark.parametrize("name", ["hipparcos", "hipparcos_hats"])
def test_the_forecast_of_the_demo_sky_is_close(name: str):
    """Its margin of 600 arcsec has 3350 rows."""
    plan = plan_of(ROOT / "demo" / name)
    sizes = file_sizes(plan)
    assert sizes.fixed > sizes.footer > 1000
    assert forecast(plan, sizes, *jobs(plan)).rows == pytest.approx(3350, rel=0.1)


def test_shards_and_memory_go_by_sizes_without_compression(tmp_path: Path):
    """The largest partition, and its largest row group, are those that compress worst."""
    catalog = small_catalog(tmp_path / "sky", rows=600, max_rows=100)
    rng = np.random.default_rng(4)

    def with_images(table: pa.Table, number: int) -> pa.Table:
        images = [row.to_bytes(4, "big") + bytes(9996) for row in range(table.num_rows)]
        images[:20] = [rng.bytes(1000 if number == 0 else 10) for _ in images[:20]]
        return table.append_column("image", pa.array(images))

    options = {"compression": "zstd", "use_dictionary": False, "row_group_size": 20}
    rewrite_partitions(catalog, with_images, **options)
    plan = plan_of(catalog)
    sizes, group = file_sizes(plan), largest_row_group(plan)
    assert 4000 < sizes.memory < 10_000
    assert sizes.row < 1000
    wide = replace(plan, parameters=replace(plan.parameters, threshold=20_000.0))
    expected = forecast(wide, sizes, *jobs(plan))
    assert expected.rows > 100
    assert expected.intermediate > expected.rows * 4000
    assert group.size_mb * group.expansion == pytest.approx(0.2, rel=0.1)


def test_damaged_footers_do_not_prevent_a_forecast(tmp_path: Path):
    plan = make_plan(PARAMETERS, partitions_of(4))
    assert file_sizes(plan).row > 0
    assert forecast(plan, file_sizes(plan), *jobs(plan)).rows > 0
