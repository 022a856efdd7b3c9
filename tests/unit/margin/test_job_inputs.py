"""Jobs read what the plan says."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from margin_cache.margin.job_inputs import (
    partitions_read,
    shards_read,
    target,
)
from margin_cache.margin.model import Margin
from support.small_skies import small_catalog


def test_map_jobs_read_each_partition_once(catalog: Path, prepare: Callable[..., Margin]) -> None:
    margin = prepare()
    read = [file for name in margin.plan.map_names for file in partitions_read(margin, name)]
    assert sorted(read) == sorted(map(str, catalog.rglob("Npix=*.parquet")))


def test_a_partition_of_the_future_is_kept_from_snakemake(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    first = min(catalog.rglob("Npix=*.parquet"))
    os.utime(first, (time.time() + 1000,) * 2)
    margin = prepare()
    read = [partitions_read(margin, name) for name in margin.plan.map_names]
    assert read.count([]) == 1


def test_paths_with_braces_are_kept_from_snakemake(
    tmp_path: Path, prepare: Callable[..., Margin]
) -> None:
    catalog = small_catalog(tmp_path / "a{b}" / "sky", rows=100, max_rows=100)
    margin = prepare(input_catalog_path=catalog)
    assert partitions_read(margin, margin.plan.map_names[0]) == []


def test_a_reduce_job_reads_the_shards_that_it_needs(prepare: Callable[..., Margin]) -> None:
    plan = (margin := prepare()).plan
    for job, name in enumerate(plan.reduce_names):
        expected = [str(margin.files.shard(plan.map_names[need])) for need in plan.needs_of(job)]
        assert shards_read(margin, name) == expected
        assert expected


def test_a_run_ends_with_the_done_file_unless_the_margin_is_complete(
    prepare: Callable[..., Margin],
) -> None:
    margin = prepare()
    assert target(margin, True) == str(margin.done_file)
    assert Path(target(margin, False)).parent == margin.files.output_dir
