"""Margins are written to a local directory or to a bucket."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing_output import check_output, is_complete
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin
from margin_cache.margin.output import (
    RemoteOutput,
    check_output_urls,
    listing_dir_of,
    open_output,
    remote_output,
    use_output_listing,
)
from margin_cache.margin.output_lock import LOCK_OBJECT, new_output_lock
from margin_cache.margin.start_run import start_margin
from margin_cache.storage import local_listing
from margin_cache.storage.files import temporary_beside, unique_id
from margin_cache.storage.local_listing import is_object_version
from margin_cache.storage.old_object_store import ObjectState
from margin_cache.storage.parquet_files import open_parquet
from support.margins import tree_digest
from support.object_servers import S3
from support.remote_catalogs import only_parquet
from support.stages import release_locks, run_map_jobs, run_reduce_jobs


@pytest.fixture(autouse=True)
def released() -> object:
    yield
    release_locks()


def test_local_output_writes_no_objects(prepare: Callable[..., Margin], tmp_path: Path) -> None:
    margin = prepare()
    (tmp_path / "file").touch()
    with open_output(margin) as output:
        output.check_lock(margin)
        assert output.write({"a": tmp_path / "file"}) == {}
        output.publish(tmp_path, {})
        output.register(margin.plan.parameters.catalog)
        output.release_lock(margin)
    assert not margin.files.output_dir.exists()


def reduced(margin: Margin) -> str:
    """Do all jobs of a margin but the last; return its path in the bucket."""
    start_margin(margin)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    return margin.files.url.removeprefix("s3://sky/")


def test_margin_in_a_bucket_has_the_same_files(
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


def test_job_without_the_lock_writes_nothing(in_s3: Callable[..., Margin], s3: S3) -> None:
    margin = in_s3()
    name = margin.files.url.removeprefix("s3://sky/")
    start_margin(margin)
    run_map_jobs(margin)
    s3.remove(f"{name}/.being_made.json")
    with pytest.raises(MarginCacheError, match="does not have the lock any more"):
        run_reduce_jobs(margin)
    assert s3.states(name) == {}


def test_margin_with_replaced_objects_is_not_finished(in_s3: Callable[..., Margin], s3: S3) -> None:
    margin = in_s3()
    name = reduced(margin)
    path = sorted(only_parquet(s3.states(name)))[0]
    s3.write(f"{name}/{path}", bytes(len(s3.read(f"{name}/{path}"))))
    with pytest.raises(MarginCacheError, match=r"is missing or truncated\. Start the run again"):
        finish_margin(margin)
    assert not any("properties" in path or "info.json" in path for path in s3.states(name))


def test_temporary_files_in_a_listing_are_ignored(in_s3: Callable[..., Margin], s3: S3) -> None:
    margin = in_s3()
    start_margin(margin)
    release_locks()
    left = temporary_beside(margin.files.output_dir / LOCK_OBJECT, unique_id())
    left.touch()
    check_output(in_s3())
    name = margin.files.url.removeprefix("s3://sky/")
    s3.write(f"{name}/.hidden.tmp", b"x")
    with pytest.raises(MarginCacheError, match=r"/\.hidden\.tmp does not belong to the margin"):
        check_output(in_s3())


def test_margin_that_another_run_has_finished_is_not_replaced(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    """The run was planned before the other one began."""
    late = in_s3(margin_threshold=30.0)
    margin = in_s3()
    name = reduced(margin)
    finish_margin(margin)
    before = s3.states(name)
    release_locks()
    with pytest.raises(MarginCacheError, match=r"margin_threshold 60\.0, not 30\.0"):
        start_margin(late)
    assert s3.states(name) == before


def test_interrupted_run_without_resume_can_be_started_again(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    """Each of its runs has a plan of its own, but the margin has the same content."""
    reduced(in_s3(resume=False))
    release_locks()
    margin = in_s3(resume=False)
    name = reduced(margin)
    finish_margin(margin)
    assert is_complete(margin)
    assert f"{LOCK_OBJECT}" not in s3.states(name)


def test_run_without_options_does_not_use_earlier_ones(
    in_s3: Callable[..., Margin],
) -> None:
    margin = in_s3()
    assert margin.files.output_storage_file.exists()
    with remote_output(margin.files, {}) as output:
        assert "endpoint_url" not in str(output._store._object_store._system.storage_options)


RUN = {"process": 5, "host": "node", "directory": "/data/lab"}


@pytest.fixture
def margin(in_s3: Callable[..., Margin]) -> Margin:
    return in_s3()


@pytest.fixture
def key(margin: Margin) -> str:
    """Path of the margin in the bucket."""
    return margin.files.url.removeprefix("s3://sky/")


def files_below(directory: Path) -> set[str]:
    found = directory.rglob("*")
    return {path.relative_to(directory).as_posix() for path in found if path.is_file()}


def test_listing_shows_the_objects(margin: Margin, key: str, s3: S3) -> None:
    rows = "Norder=0/Dir=0/Npix=4.parquet"
    s3.write(f"{key}/{rows}", b"12345")
    s3.write(f"{key}/properties", b"a=b")
    s3.write(f"{key}2/properties", b"a=c")
    listing = margin.files.output_dir
    with remote_output(margin.files) as output:
        output.refresh()
        assert files_below(listing) == {rows, "properties"}
        assert (listing / "properties").read_bytes() == b"a=b"
        assert is_object_version(listing / rows, 5, s3.states(key)[rows])
        assert (listing / rows).read_bytes() == bytes(5)
        s3.remove(f"{key}/{rows}")
        s3.write(f"{key}/properties", b"a=d")
        output.refresh()
        assert files_below(listing) == {"properties"}
        assert (listing / "properties").read_bytes() == b"a=d"
        s3.remove(f"{key}/properties")
        output.refresh()
        assert not listing.exists()


def test_missing_bucket_is_named(s3: S3, tmp_path: Path) -> None:
    options = {**s3.options, "key": "any"}
    with (
        RemoteOutput("s3://nowhere/m", tmp_path / "m", options) as output,
        pytest.raises(MarginCacheError, match=r"the bucket of s3://nowhere/m does not exist"),
    ):
        output.refresh()


def test_objects_are_written_with_their_etags_and_removed(
    margin: Margin, key: str, s3: S3, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with remote_output(margin.files) as output:
        etags = output.write({"a/b": tmp_path / "file", "c": tmp_path / "file"})
        assert etags == s3.states(key)
        # The file represents the object from now on.
        assert is_object_version(tmp_path / "file", 5, etags["c"])
        output.refresh()
        output.remove(["c", "none"])
    assert set(s3.states(key)) == {"a/b"} == files_below(margin.files.output_dir)


def test_metadata_is_removed(margin: Margin, key: str, s3: S3) -> None:
    for name in ("properties", "hats.properties", "catalog_info.json", "partition_info.csv"):
        s3.write(f"{key}/{name}", b"a=b")
    with remote_output(margin.files) as output:
        output.refresh()
        output.remove_metadata()
    assert set(s3.states(key)) == {"partition_info.csv"}


def test_metadata_is_published_last(
    margin: Margin, key: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.write(f"{key}/stale", b"x")
    s3.write(f"{key}/{LOCK_OBJECT}", b"{}")
    s3.write(f"{key}/dataset/rows", b"rows")
    made = tmp_path / "made"
    names = ("dataset/rows", "partition_info.csv", "provenance_info.json", "properties")
    for name in (*names, "hats.properties"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"new")
    order: list[str] = []
    write = RemoteOutput.write

    def noted(self: RemoteOutput, files: Any) -> Any:
        order.extend(files)
        return write(self, files)

    monkeypatch.setattr(RemoteOutput, "write", noted)
    with remote_output(margin.files) as output:
        output.refresh()
        output.publish(made, {"dataset/rows"})
    assert order == ["partition_info.csv", "provenance_info.json", "properties", "hats.properties"]
    assert set(s3.states(key)) == {*names, "hats.properties", LOCK_OBJECT}
    assert s3.read(f"{key}/dataset/rows") == b"rows"


def test_lock_is_shared_by_the_runs_of_one_directory(margin: Margin, key: str, s3: S3) -> None:
    lock = new_output_lock(margin, RUN)
    with remote_output(margin.files) as output:
        output.acquire_lock(lock)
        output.acquire_lock(replace(lock, process=6))
        with pytest.raises(MarginCacheError, match=r"is being made by another run .process 6 on"):
            output.acquire_lock(replace(lock, run_token="another"))
        output.check_lock(margin)
        output.release_lock(margin)
        with pytest.raises(MarginCacheError, match="does not have the lock any more"):
            output.check_lock(margin)
        output.acquire_lock(replace(lock, fingerprint="another"))
        with pytest.raises(MarginCacheError, match="does not have the lock any more"):
            output.check_lock(margin)
        s3.write(f"{key}/{LOCK_OBJECT}", replace(lock, run_token="another").encoded())
        output.release_lock(margin)
    assert set(s3.states(key)) == {LOCK_OBJECT}


def test_lock_written_between_look_and_write_is_kept(
    margin: Margin, key: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = new_output_lock(margin, RUN)
    other = replace(lock, run_token="another").encoded()
    look = RemoteOutput._state

    def late(self: RemoteOutput, path: str) -> Any:
        state = look(self, path)
        s3.write(f"{key}/{LOCK_OBJECT}", other)
        return state

    with remote_output(margin.files) as output, monkeypatch.context() as patch:
        patch.setattr(RemoteOutput, "_state", late)
        with pytest.raises(MarginCacheError, match="is being made by another run"):
            output.acquire_lock(lock)
    assert s3.read(f"{key}/{LOCK_OBJECT}") == other


PROPERTIES = b"obs_collection=c\nhats_primary_table_url=primary\nhats_estsize=1\n"


def collection_of(margin: Margin, key: str, s3: S3) -> tuple[Any, str]:
    """The catalog as the primary of a collection, and the path of the collection's properties."""
    around = key.rpartition("/")[0]
    s3.write(f"{around}/collection.properties", PROPERTIES)
    s3.write(f"{around}/primary/rows", bytes(5000))
    info = replace(margin.plan.parameters.catalog, format="hats", url=f"s3://sky/{around}/primary")
    return info, f"{around}/collection.properties"


def test_margin_is_registered_in_the_collection_of_its_primary_only(
    margin: Margin, key: str, s3: S3
) -> None:
    info, properties = collection_of(margin, key, s3)
    s3.write(f"{key}/rows", bytes(3000))
    with remote_output(margin.files) as output:
        output.refresh()
        output.register(replace(info, url="s3://sky/elsewhere/primary"))
        assert s3.read(properties) == PROPERTIES
        output.register(info)
    lines = s3.read(properties).decode().splitlines()
    name = margin.name
    assert lines[2:] == ["hats_estsize=7", f"all_margins={name}", f"default_margin={name}"]


def test_concurrent_changes_of_a_collection_are_kept(
    margin: Margin, key: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, properties = collection_of(margin, key, s3)
    refresh = RemoteOutput.refresh_collection
    written: list[int] = []

    def late(self: RemoteOutput, info: Any) -> Any:
        etag = refresh(self, info)
        if len(written) < 3:
            written.append(1)
            s3.write(properties, PROPERTIES + b"all_margins=other%d\n" % len(written))
        return etag

    monkeypatch.setattr(RemoteOutput, "refresh_collection", late)
    with remote_output(margin.files) as output:
        output.register(info)
    assert f"all_margins=other3 {margin.name}\n" in s3.read(properties).decode()


def test_nothing_is_registered_without_a_collection(margin: Margin, key: str, s3: S3) -> None:
    with remote_output(margin.files) as output:
        output.register(margin.plan.parameters.catalog)
    assert s3.states(key.rpartition("/")[0]) == {}


def test_footers_are_fetched_into_the_listing(
    margin: Margin, key: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_listing, "_listings", [])
    pq.write_table(pa.table({"x": list(range(50_000))}), tmp_path / "rows")
    content = (tmp_path / "rows").read_bytes()
    name = "dataset/Norder=0/Dir=0/Npix=4.parquet"
    s3.write(f"{key}/{name}", content)
    with remote_output(margin.files) as output:
        output.refresh()
    use_output_listing(margin.files)
    file = margin.files.output_dir / name
    assert open_parquet(file).metadata.num_rows == 50_000
    assert is_object_version(file, len(content), s3.states(key)[name])
    assert 512 * file.stat().st_blocks < len(content) / 2


def test_object_names_do_not_leave_the_listing(margin: Margin, key: str, s3: S3) -> None:
    for name in ("../outside", "/etc/outside", "a//b", "directory/", ""):
        s3.write(f"{key}/{name}", b"x")
    s3.write(f"{key}/inside", b"x")
    with remote_output(margin.files) as output:
        output.refresh()
        assert files_below(margin.files.output_dir.parent) == {f"{margin.name}/inside"}
        with pytest.raises(
            MarginCacheError, match=r"lists the file \.\./outside, which is not inside"
        ):
            output.listing.add({"../outside": ObjectState(1, "a")})


def settings(catalog: str, output: str, **options: Any) -> MarginSettings:
    return MarginSettings(input_catalog_path=catalog, output_path=output, **options)


def test_each_output_path_has_its_own_listing_dir() -> None:
    assert listing_dir_of(settings("sky", "results")) == ""
    first = listing_dir_of(settings("sky", "s3://a/results"))
    assert first == listing_dir_of(settings("other", "s3://a/results/"))
    elsewhere = settings(
        "sky", "s3://a/results", output_storage_options={"endpoint_url": "http://localhost"}
    )
    secret = settings("sky", "s3://a/results", output_storage_options={"key": "secret"})
    assert first == listing_dir_of(secret) != listing_dir_of(elsewhere)
    assert Path(first).parent == Path(".snakemake/remote")


@pytest.mark.parametrize(
    ("output", "name", "is_refused"),
    [
        ("s3://a", "sky", True),
        ("s3://a/sky", "m", True),
        ("s3://a/sky/dataset", "m", True),
        ("s3://a", "sky_10arcs", False),
        ("s3a://a/sky", "m", True),
        ("s3://b", "sky", False),
        ("results", "sky", False),
    ],
)
def test_margins_do_not_overlap_with_catalogs(output: str, name: str, is_refused: bool) -> None:
    margin: Any = SimpleNamespace(
        settings=settings("s3://a/sky", output), name=name, info=SimpleNamespace(url="s3://a/sky")
    )
    if not is_refused:
        check_output_urls([margin])
        return
    with pytest.raises(MarginCacheError, match="overlaps with the input catalog"):
        check_output_urls([margin])


@pytest.mark.parametrize(
    ("output", "name", "is_refused"),
    [("s3://b", "m", True), ("s3://b/m", "n", True), ("s3://b", "m2", False)],
)
def test_margins_do_not_overlap(output: str, name: str, is_refused: bool) -> None:
    local = SimpleNamespace(url="")
    first, second = (
        SimpleNamespace(settings=settings("sky", path), name=margin_name, info=local)
        for path, margin_name in (("s3://b", "m"), (output, name))
    )
    margins: Any = [first, second]
    for order in (margins, margins[::-1]):
        if not is_refused:
            check_output_urls(order)
            continue
        with pytest.raises(MarginCacheError, match="overlaps with another margin s3:"):
            check_output_urls(order)


def test_listing_of_a_running_margin_is_not_refreshed(in_s3: Callable[..., Margin], s3: S3) -> None:
    margin = in_s3()
    start_margin(margin)
    kept = margin.files.output_dir / "written_by_a_job"
    kept.touch()
    in_s3()
    assert kept.exists()
    release_locks()
    in_s3()
    assert not kept.exists()


def test_listing_is_refreshed_when_a_margin_is_prepared(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    margin = in_s3()
    name = margin.files.url.removeprefix("s3://sky/")
    s3.write(f"{name}/moon.jpg", b"x")
    assert not margin.files.output_dir.exists()
    assert (in_s3().files.output_dir / "moon.jpg").read_bytes() == b"x"
