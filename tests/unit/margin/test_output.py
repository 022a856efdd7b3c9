"""A margin gets to its place on disk, or in a store, in all its stages."""

from collections.abc import Callable
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing_output import check_output, is_complete
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin
from margin_cache.margin.output import output_of
from margin_cache.margin.output_lock import LOCK_OBJECT
from margin_cache.margin.remote_output import open_output
from margin_cache.margin.start_run import start_margin
from margin_cache.storage.files import temporary_beside, unique_id
from support.margins import tree_digest
from support.object_servers import S3
from support.remote_catalogs import only_parquet
from support.stages import release_locks, run_map_jobs, run_reduce_jobs


@pytest.fixture(autouse=True)
def released() -> object:
    yield
    release_locks()


def test_a_place_on_disk_has_no_objects(prepare: Callable[..., Margin], tmp_path: Path) -> None:
    margin = prepare()
    (tmp_path / "file").touch()
    with output_of(margin) as place:
        place.check_claim({"plan": "another"})
        assert place.write({"a": tmp_path / "file"}) == {}
        place.publish(tmp_path, {})
        place.register(margin.plan.parameters.catalog)
        place.release("another")
    assert not margin.files.output_dir.exists()


def reduced(margin: Margin) -> str:
    """Do all jobs of a margin but the last; return the name of its place in the bucket."""
    start_margin(margin)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    return margin.files.url.removeprefix("s3://sky/")


def test_a_margin_in_a_store_is_made_by_the_same_stages(
    in_s3: Callable[..., Margin], finished: Margin, s3: S3
) -> None:
    margin = in_s3()
    name = reduced(margin)
    assert not is_complete(margin)
    finish_margin(margin)
    assert is_complete(margin)
    found, expected = s3.digests(name), tree_digest(finished.files.output_dir)
    assert found.keys() == expected.keys()
    assert only_parquet(found) == only_parquet(expected)


def test_a_job_whose_run_has_ended_writes_nothing(in_s3: Callable[..., Margin], s3: S3) -> None:
    margin = in_s3()
    name = margin.files.url.removeprefix("s3://sky/")
    start_margin(margin)
    run_map_jobs(margin)
    s3.remove(f"{name}/.being_made.json")
    with pytest.raises(MarginCacheError, match="is not being made by this run any more"):
        run_reduce_jobs(margin)
    assert s3.states(name) == {}


def test_a_margin_of_objects_that_others_have_replaced_is_not_finished(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    margin = in_s3()
    name = reduced(margin)
    path = sorted(only_parquet(s3.states(name)))[0]
    s3.write(f"{name}/{path}", bytes(len(s3.read(f"{name}/{path}"))))
    with pytest.raises(MarginCacheError, match="is missing or truncated; start the run again"):
        finish_margin(margin)
    assert not any("properties" in each or "info.json" in each for each in s3.states(name))


def test_what_a_killed_process_left_in_an_image_is_nobodys(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    margin = in_s3()
    start_margin(margin)
    release_locks()
    left = temporary_beside(margin.files.output_dir / LOCK_OBJECT, unique_id())
    left.touch()
    check_output(in_s3())
    name = margin.files.url.removeprefix("s3://sky/")
    s3.write(f"{name}/.hidden.tmp", b"x")
    with pytest.raises(MarginCacheError, match=r"/\.hidden\.tmp is none of the margin's files"):
        check_output(in_s3())


def test_a_margin_that_another_run_has_finished_meanwhile_is_not_replaced(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    """This run has planned when nothing was there."""
    late = in_s3(margin_threshold=30.0)
    margin = in_s3()
    name = reduced(margin)
    finish_margin(margin)
    before = s3.states(name)
    release_locks()
    with pytest.raises(MarginCacheError, match=r"margin_threshold 60\.0, not 30\.0"):
        start_margin(late)
    assert s3.states(name) == before


def test_a_run_without_options_does_not_take_those_of_an_earlier_one(
    in_s3: Callable[..., Margin],
) -> None:
    margin = in_s3()
    assert margin.files.output_storage_file.exists()
    with open_output(margin.files, {}) as output:
        assert "endpoint_url" not in str(output._store._door._system.storage_options)
