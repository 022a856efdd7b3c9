"""A shard that is found damaged is made again by the next run, and no other is."""

from pathlib import Path

import pytest
from support.faulty_margins import make_in
from support.margins import Digests, configuration, margin_digests
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

DAMAGED = "was damaged. Start the run again; it makes the file again"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=4000, max_rows=400)


@pytest.fixture(scope="module")
def whole(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """The margin of the catalog."""
    directory = tmp_path_factory.mktemp("whole")
    make_in(directory, configuration(catalog))
    return margin_digests(directory)


def damage(shard: Path) -> None:
    """Fill all of a shard but its index with zeros."""
    content = shard.read_bytes()
    shard.write_bytes(bytes(len(content) - 200) + content[-200:])


@pytest.mark.parametrize("options", [(), ("--keep-going", "--retries", "1")])
def test_the_next_run_rebuilds_a_damaged_shard_and_no_other(
    options: tuple[str, ...], catalog: Path, whole: Digests, tmp_path: Path
) -> None:
    kept = {"delete_intermediate_parquet_files": False}
    config = configuration(catalog, partitions_per_job=4, **kept)
    site = tmp_path / "site"
    run_workflow(site, "--until", "map_partitions", config=config, check=True)
    shards = sorted(site.glob("intermediate/*/*/shards/*.arrow"))
    assert len(shards) > 3
    times = {shard: shard.stat().st_mtime_ns for shard in shards[1:]}
    damage(shards[0])
    failed = run_workflow(site, *options, cores=1)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stdout
    place = shards[0].relative_to(site)
    assert f"\nerror: {place}: {DAMAGED}" in failed.stdout, failed.stdout
    again = run_workflow(site, check=True).stdout
    assert "jobs to do: 1 map " in again, again
    assert margin_digests(site) == whole
    assert sorted(site.glob("intermediate/*/*/shards/*")) == shards
    assert {shard: shard.stat().st_mtime_ns for shard in times} == times
