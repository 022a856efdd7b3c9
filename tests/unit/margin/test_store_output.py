"""A margin in a store is complete or cannot be opened, and belongs to one run at a time."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.spec import DESCRIPTIONS
from margin_cache.errors import MarginCacheError
from margin_cache.margin import store_output
from margin_cache.margin.existing import (
    UNFINISHED,
    check_output,
    has_leftovers,
    is_complete,
    missing_receipts,
)
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin, load_margin
from margin_cache.margin.prepare import start_margin
from margin_cache.margin.remote import OptionsSource, save_source
from margin_cache.margin.store_output import LOCK, StoreOutput
from margin_cache.storage.object_store import ObjectStore, PermissionDenied
from support.margins import tree_digest
from support.memory_store import PLACE, MemoryStore, Stores
from support.small_skies import small_catalog
from support.stages import release_locks, run_map_jobs, run_reduce_jobs

Prepare = Callable[..., Margin]


@pytest.fixture
def margin(in_store: Prepare) -> Margin:
    return in_store()


@contextmanager
def another_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work as in another working directory, with the same catalog and intermediate files."""
    with monkeypatch.context() as patch:
        patch.setattr(store_output, "_OWNER_FILE", Path("elsewhere/owner.json"))
        yield


def reduced(margin: Margin) -> Margin:
    """Do all jobs of a margin but the last; return it as that one loads it."""
    start_margin(margin)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    return loaded(margin)


def loaded(margin: Margin) -> Margin:
    return load_margin(margin.files.margin_file)


def made(margin: Margin) -> None:
    finish_margin(reduced(margin))
    release_locks()


def rows_in(objects: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in objects.items() if "Norder=" in path}


def some_of(requests: int) -> list[int]:
    """Numbers of the first and last requests, and of some between."""
    return sorted({*range(1, 5), requests // 3, requests // 2, *range(requests - 4, requests)})


def is_openable(objects: dict[str, bytes]) -> bool:
    return not objects.keys().isdisjoint(DESCRIPTIONS)


def test_a_margin_in_a_store_has_the_same_files_as_on_disk(
    margin: Margin, finished: Margin, stores: Stores
) -> None:
    last = reduced(margin)
    assert stores.below(margin.files.url).keys() == {LOCK}
    assert not is_complete(last)
    summary = finish_margin(last)
    assert is_complete(last) and not has_leftovers(last)
    assert summary["output_dir"] == f"{PLACE}/{margin.name}"
    found = stores.below(margin.files.url)
    assert found.keys() == tree_digest(finished.files.output_dir).keys()
    for path, content in rows_in(found).items():
        assert (finished.files.output_dir / path).read_bytes() == content
    assert not margin.files.output_dir.exists() and not margin.files.staging_dir.exists()
    path = min(rows_in(found))
    table = pq.read_table(finished.files.output_dir / path, partitioning=None)
    assert last.output.open_parquet(path).metadata.num_rows == table.num_rows


def test_the_description_is_removed_first_and_written_last(
    in_store: Prepare, stores: Stores
) -> None:
    made(in_store())
    margin = in_store(margin_threshold=30.0, overwrite=True)
    last = reduced(margin)
    requests: list[tuple[str, str]] = []
    stores.before = lambda action, url: requests.append((action, url.rpartition("/")[2]))
    finish_margin(last)
    kinds = [
        (action, "rows" if name.startswith("Npix") else name)
        for action, name in requests
        if name != LOCK
    ]
    order = list(dict.fromkeys(kinds))
    assert order[:2] == [("put", "provenance_info.json"), ("delete", "catalog_info.json")]
    assert requests[-3:] == [
        ("put", "provenance_info.json"),
        ("put", "catalog_info.json"),
        ("delete", LOCK),
    ]


@pytest.mark.parametrize("older", [False, True])
def test_a_run_killed_at_any_request_leaves_no_margin_that_opens(
    in_store: Prepare, stores: Stores, older: bool
) -> None:
    """Except the older one, and the next run completes it."""
    before: dict[str, bytes] = {}
    if older:
        made(in_store(margin_threshold=300.0))
        before = rows_in(stores.below(f"{PLACE}/margin"))
    margin = in_store(overwrite=older, delete_intermediate_parquet_files=False)
    reduced(margin)
    release_locks()
    objects = dict(stores.objects)
    stores.before = lambda action, url: requests.append(url)
    requests: list[str] = []
    files = shutil.copytree(margin.intermediate_dir, Path("copy"))
    start_margin(margin)
    finish_margin(loaded(margin))
    after = rows_in(stores.below(margin.files.url))
    assert after != before
    for number in some_of(len(requests)):
        shutil.rmtree(margin.intermediate_dir)
        shutil.copytree(files, margin.intermediate_dir)
        stores.objects = dict(objects)
        left = [number]

        def kill(action: str, url: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        release_locks()
        stores.before = kill
        start_margin(margin)
        with pytest.raises(KeyboardInterrupt):
            finish_margin(loaded(margin))
        found = stores.below(margin.files.url)
        assert not is_openable(found) or rows_in(found) in (before, after)
        release_locks()
        stores.before = lambda action, url: None
        resumed = in_store(overwrite=False, delete_intermediate_parquet_files=False)
        if older and number == 1:
            with pytest.raises(MarginCacheError, match=r"margin_threshold 300.0, not 60.0"):
                check_output(resumed)
            continue
        check_output(resumed)
        start_margin(resumed)
        finish_margin(loaded(resumed))
        found = stores.below(margin.files.url)
        assert rows_in(found) == after and is_openable(found) and LOCK not in found


@pytest.mark.parametrize("older", [False, True])
def test_a_job_that_outlives_its_run_does_not_change_a_later_margin(
    older: bool, in_store: Prepare, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it writes, another run takes over and makes a margin of other parameters."""
    if older:
        made(in_store(margin_threshold=300.0))
    late = in_store(overwrite=True, delete_intermediate_parquet_files=False)
    last = reduced(late)
    objects = dict(stores.objects)
    files = shutil.copytree(late.intermediate_dir, Path("copy"))
    requests: list[str] = []
    stores.before = lambda action, url: requests.append(action)
    finish_margin(last)
    later: dict[str, bytes] = {}
    left = 0

    def take_over(action: str, url: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            # As its user does who knows the first run dead.
            stores.objects.pop(f"{late.files.url}/{LOCK}")
            with another_directory(monkeypatch):
                made(in_store(margin_threshold=30.0, overwrite=True, tmp_dir="other"))
            later.update(stores.below(late.files.url))

    for number in some_of(len(requests)):
        if requests[number] == "delete":
            continue
        shutil.copytree(files, late.intermediate_dir, dirs_exist_ok=True)
        stores.objects, left = dict(objects), number + 1
        later.clear()
        stores.before = take_over
        with pytest.raises(MarginCacheError, match=r"another run|does not have the lock any more"):
            finish_margin(loaded(late))
        found = stores.below(late.files.url)
        assert is_openable(later) and found.items() >= later.items()
        # Files that were on their way then can be new; the margin does not name them.
        assert all("Norder=" in path for path in found.keys() - later.keys())


def test_a_late_description_does_not_open_the_margin_of_a_run_at_work(
    in_store: Prepare, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run takes over between a look at the lock and the writing of a description."""
    late = in_store()
    last = reduced(late)

    def upload_begins(action: str, url: str) -> None:
        if "Norder=" in url:
            raise KeyboardInterrupt

    def take_over(action: str, url: str) -> None:
        if url.endswith(DESCRIPTIONS):
            stores.before = lambda action, url: None
            stores.objects.pop(f"{late.files.url}/{LOCK}")
            with another_directory(monkeypatch):
                other = reduced(in_store(margin_threshold=30.0, overwrite=True, tmp_dir="other"))
                stores.before = upload_begins
                with pytest.raises(KeyboardInterrupt):
                    finish_margin(other)
            stores.before = lambda action, url: None

    stores.before = take_over
    with pytest.raises(MarginCacheError, match="does not have the lock any more"):
        finish_margin(last)
    assert {LOCK, "provenance_info.json"} <= stores.below(late.files.url).keys()
    assert not is_openable(stores.below(late.files.url))


def test_a_margin_that_another_run_replaces_at_once_is_not_taken_for_the_own(
    margin: Margin, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, publish = reduced(margin), StoreOutput.publish
    url = f"{margin.files.url}/provenance_info.json"

    def replaced(output: StoreOutput, *arguments: Any) -> None:
        publish(output, *arguments)
        record = json.loads(stores.objects[url])
        record["tool_args"]["runtime_args"][UNFINISHED] = "token"
        stores.objects[url] = json.dumps({"tool_args": record["tool_args"]}).encode()

    monkeypatch.setattr(StoreOutput, "publish", replaced)
    with pytest.raises(MarginCacheError, match="was changed meanwhile, perhaps by another run"):
        finish_margin(last)


def test_a_job_without_the_lock_writes_nothing(margin: Margin, stores: Stores) -> None:
    last = reduced(margin)
    del stores.objects[f"{margin.files.url}/{LOCK}"]
    with pytest.raises(MarginCacheError, match="does not have the lock any more"):
        finish_margin(last)
    assert stores.objects == {}


def test_a_run_that_ends_leaves_no_lock(
    margin: Margin, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it has failed: a run of another directory can make the margin then."""
    start_margin(margin)
    assert stores.below(margin.files.url).keys() == {LOCK}
    release_locks()
    with another_directory(monkeypatch):
        with pytest.raises(MarginCacheError) as caught:
            start_margin(margin)
        assert f"{margin.files.url} is being made by another run (process " in str(caught.value)
        assert f"started in {Path.cwd()}). Resume that run" in str(caught.value)
        assert f"remove the object {margin.files.url}/{LOCK}." in str(caught.value)
        release_locks()
        margin.output.release()
        assert stores.objects == {}
        made(margin)
    assert is_complete(loaded(margin))


def test_a_lock_is_removed_though_the_answer_to_its_writing_was_an_error(
    margin: Margin, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, at_exit = MemoryStore._put, []

    def without_etag(store: MemoryStore, *arguments: Any) -> Any:
        put(store, *arguments)
        raise MarginCacheError("no ETag")

    monkeypatch.setattr(MemoryStore, "_put", without_etag)
    monkeypatch.setattr(store_output.atexit, "register", at_exit.append)
    with pytest.raises(MarginCacheError, match="no ETag"):
        start_margin(margin)
    assert stores.below(margin.files.url).keys() == {LOCK}
    for call in at_exit:
        call()
    assert stores.objects == {}


@pytest.mark.parametrize("content", [None, b"less"])
def test_a_store_that_loses_what_it_was_given_fails_the_run(
    content: bytes | None, margin: Margin, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, put = reduced(margin), MemoryStore._put

    def loses(store: MemoryStore, path: str, *arguments: Any) -> Any:
        state = put(store, path, *arguments)
        if path in DESCRIPTIONS:
            stores.objects.pop(store.url_of(path))
            stores.objects |= {store.url_of(path): content} if content else {}
        return state

    monkeypatch.setattr(MemoryStore, "_put", loses)
    with pytest.raises(
        MarginCacheError, match=r"catalog_info.json: was changed by another run or program"
    ):
        finish_margin(last)


def test_what_a_lock_says_is_printed_as_one_line_without_control_characters(
    margin: Margin, stores: Stores
) -> None:
    run = {"process": 1, "host": "h\x1b[31m", "directory": "/x\nerror: no"}
    stores.objects[f"{margin.files.url}/{LOCK}"] = json.dumps(run).encode()
    with pytest.raises(MarginCacheError, match=r"process 1 on h\?.31m, started in /x\?error: no\)"):
        check_output(margin)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"token": "a"}', b"null"])
def test_a_damaged_lock_is_of_an_unknown_run(
    margin: Margin, stores: Stores, content: bytes
) -> None:
    stores.objects[f"{margin.files.url}/{LOCK}"] = content
    with pytest.raises(MarginCacheError, match=r"made by another run .unknown process."):
        check_output(margin)
    assert not margin.output.is_left_locked()


def test_a_run_of_the_same_directory_that_is_at_work_is_not_replaced(
    margin: Margin, in_store: Prepare, stores: Stores
) -> None:
    start_margin(margin)
    release_locks()
    lock = f"{margin.files.url}/{LOCK}"
    # A process that is called like Snakemake, and has ended later.
    code = "import sys; print('x', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code, "snakemake"], stdin=pipe, stdout=pipe
    ) as run:
        run.stdout.readline()
        stores.objects[lock] = json.dumps(
            {**json.loads(stores.objects[lock]), "process": run.pid}
        ).encode()
        with pytest.raises(MarginCacheError, match=f"made by another run .process {run.pid}"):
            start_margin(in_store())
        release_locks()
        run.stdin.close()
    start_margin(in_store())


@pytest.mark.parametrize("conditions", [True, False])
def test_of_two_runs_that_start_at_once_one_is_refused(
    margin: Margin, stores: Stores, conditions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen no lock; the one whose lock is there in the end goes on."""
    stores.conditions = conditions
    with another_directory(monkeypatch):
        start_margin(margin)
    release_locks()
    url = f"{margin.files.url}/{LOCK}"
    other = stores.objects.pop(url)
    put = MemoryStore._put

    def at_once(store: MemoryStore, *arguments: Any, **condition: Any) -> Any:
        if conditions:
            stores.objects[url] = other
        state = put(store, *arguments, **condition)
        stores.objects[url] = other
        return state

    monkeypatch.setattr(MemoryStore, "_put", at_once)
    with pytest.raises(MarginCacheError, match="is being made by another run"):
        start_margin(loaded(margin))
    assert stores.objects == {url: other}


def test_a_killed_run_is_gone_on_with_under_another_name_of_its_place(in_store: Prepare) -> None:
    start_margin(in_store())
    release_locks()
    again = in_store(output_path=PLACE.replace("s3://", "s3a://"))
    made(again)
    assert is_complete(in_store()) and again.files.url == f"{PLACE}/margin"


def test_a_margin_beside_others_of_its_name_is_inside_none(in_store: Prepare) -> None:
    made(in_store())
    check_output(in_store(output_path=f"{PLACE}/margin2"))
    for changes in ({"output_path": f"{PLACE}/margin"}, {"output_path": f"{PLACE}/margin/more"}):
        with pytest.raises(MarginCacheError, match=r"is inside another catalog or margin, or"):
            check_output(in_store(**changes, overwrite=True))
    made(in_store(output_path=f"{PLACE}/group/sky"))
    with pytest.raises(MarginCacheError, match=r"/group is inside another catalog .*/group/sky/"):
        check_output(in_store(output_artifact_name="group", overwrite=True))


def test_a_margin_that_another_run_makes_inside_is_found(in_store: Prepare) -> None:
    start_margin(in_store(output_path=f"{PLACE}/margin/more"))
    with pytest.raises(MarginCacheError, match=r"/margin is inside another .*/margin/more/"):
        check_output(in_store(overwrite=True))


def test_own_remains_do_not_stop_a_run_when_the_partitions_have_changed(
    catalog: Path, in_store: Prepare, stores: Stores
) -> None:
    """The names of objects are those of pixels that the margin may not have any more."""
    last = reduced(in_store())

    def kill(action: str, url: str) -> None:
        if url.endswith("provenance_info.json") and rows_in(stores.objects):
            raise KeyboardInterrupt

    stores.before = kill
    with pytest.raises(KeyboardInterrupt):
        finish_margin(last)
    stores.before = lambda action, url: None
    release_locks()
    before = rows_in(stores.below(last.files.url)).keys()
    shutil.rmtree(catalog)
    small_catalog(catalog, rows=600, max_rows=10**6)
    with pytest.raises(MarginCacheError, match=r"margin_threshold 60\.0, not 30\.0"):
        check_output(in_store(margin_threshold=30.0))
    margin = in_store()
    made(margin)
    assert is_complete(loaded(margin))
    assert before - rows_in(stores.below(margin.files.url)).keys()


def test_objects_that_were_removed_or_replaced_are_missing(margin: Margin, stores: Stores) -> None:
    made(margin)
    objects = dict(stores.objects)
    names = sorted(stores.below(margin.files.url))
    rows = next(name for name in names if "Norder=" in name)
    for name in ("partition_info.csv", "catalog_info.json", rows):
        url = f"{margin.files.url}/{name}"
        for content in (None, bytes(len(objects[url]))):
            stores.objects = {**objects, url: content} if content else dict(objects)
            if content is None:
                del stores.objects[url]
            assert not is_complete(loaded(margin))
            assert len(missing_receipts(loaded(margin))) == (name == rows)
    stores.objects = objects
    assert is_complete(loaded(margin))


def test_only_margins_are_replaced(in_store: Prepare, stores: Stores) -> None:
    stores.objects[f"{PLACE}/margin/moon.jpg"] = b"x"
    with pytest.raises(MarginCacheError, match=f"{PLACE}/margin exists and was not made by this"):
        check_output(in_store())
    with pytest.raises(MarginCacheError, match="metadata do not describe a margin"):
        check_output(in_store(overwrite=True))
    stores.objects[f"{PLACE}/margin/properties"] = b"dataproduct_type=margin\n"
    margin = in_store(overwrite=True)
    made(margin)
    assert "moon.jpg" not in stores.below(margin.files.url)
    stores.objects[f"{margin.files.url}/NOTES.txt"] = b"x"
    with pytest.raises(MarginCacheError, match=f"{PLACE}/margin/NOTES.txt does not belong to the"):
        check_output(in_store())
    check_output(in_store(overwrite=True))
    del stores.objects[f"{margin.files.url}/NOTES.txt"]
    with pytest.raises(MarginCacheError, match=r"margin_threshold 60\.0, not 30\.0"):
        check_output(in_store(margin_threshold=30.0))


def test_an_object_that_appears_during_the_upload_is_not_deleted(
    margin: Margin, stores: Stores
) -> None:
    last = reduced(margin)
    url = f"{margin.files.url}/NOTES.txt"
    stores.before = lambda action, _: stores.objects.update({url: b"mine"})
    with pytest.raises(MarginCacheError, match=f"{url}: was changed by another run or program"):
        finish_margin(last)
    assert stores.objects[url] == b"mine" and not is_openable(stores.below(margin.files.url))


def test_an_answer_that_was_lost_is_no_other_run(
    margin: Margin, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is repeated, and its object is there already."""
    put = MemoryStore._put

    def twice(store: MemoryStore, *arguments: Any, **condition: Any) -> Any:
        put(store, *arguments, **condition)
        return put(store, *arguments, **condition)

    monkeypatch.setattr(MemoryStore, "_put", twice)
    made(margin)
    assert is_complete(loaded(margin))


def test_a_run_without_resume_can_be_started_again(in_store: Prepare, stores: Stores) -> None:
    """Each of its runs has a plan of its own, but the margin has the same content."""
    reduced(in_store(resume=False))
    release_locks()
    margin = in_store(resume=False)
    made(margin)
    assert is_complete(loaded(margin)) and LOCK not in stores.below(margin.files.url)


PROPERTIES = "obs_collection=c\r\nhats_primary_table_url={}\r\nhats_estsize=1\r\n"


@pytest.mark.parametrize("primary", ["primary", f"{PLACE}/primary", "elsewhere"])
def test_a_margin_is_listed_in_the_collection_of_its_primary(
    primary: str, margin: Margin, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that others make to it meanwhile are kept."""
    url = f"{PLACE}/collection.properties"
    before = stores.objects[url] = PROPERTIES.format(primary).encode()
    stores.objects[f"{PLACE}/primary/rows"] = bytes(6000)
    info = replace(margin.plan.parameters.catalog, path="s3a://sky/lab/primary")
    others = iter(range(3))

    def late(action: str, _: str) -> None:
        if (number := next(others, None)) is not None:
            stores.objects[url] = before + b"all_margins=other%d\r\n" % number

    stores.before = late
    is_inside = primary != "elsewhere"
    output = loaded(margin).output
    assert bool(output.collection(info)) == is_inside
    output.register(info, True)
    collection = output.collection(info)
    assert collection is None or collection.has_default(f"{PLACE}/margin")
    lines = stores.objects[url].decode().split("\r\n")
    if is_inside:
        assert lines[2] == "hats_estsize=1"
        assert lines[3:] == ["all_margins=other2 margin", "default_margin=margin", ""]
    else:
        assert stores.objects[url] == before


def test_a_margin_is_not_listed_in_a_collection_of_another_store(
    in_store: Prepare, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its primary has the same URL, but is another catalog."""

    def connected(url: str, options: Mapping[str, Any], side: str) -> ObjectStore:
        store = stores.connect(url, options, side)
        store.server = options.get("endpoint_url", "")
        return store

    monkeypatch.setattr(store_output, "connect", connected)
    stores.objects[f"{PLACE}/collection.properties"] = PROPERTIES.format("primary").encode()
    margin = in_store(output_storage_options={"endpoint_url": "http://a"})
    info = replace(margin.plan.parameters.catalog, path=f"{PLACE}/primary")
    for options, is_listed in (
        ({"endpoint_url": "http://a", "anon": True}, True),
        ({"endpoint_url": "http://b"}, False),
        ({}, False),
    ):
        source = OptionsSource("input_storage_options", options=options)
        save_source(source, margin.files.storage_file)
        assert bool(loaded(margin).output.collection(info)) == is_listed


def test_a_margin_whose_registration_fails_is_complete(
    margin: Margin, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, url = reduced(margin), f"{PLACE}/collection.properties"

    def refused(*_: object) -> None:
        raise PermissionDenied(url, "output", "permission denied, it cannot be written")

    monkeypatch.setattr(StoreOutput, "register", refused)
    said = f"^{url}: permission denied.* The margin {PLACE}/margin is complete; only its regis"
    with pytest.raises(MarginCacheError, match=said):
        finish_margin(last)
    assert is_complete(loaded(margin))


def test_a_collection_that_is_no_text_is_left_as_it_is(margin: Margin, stores: Stores) -> None:
    url = f"{PLACE}/collection.properties"
    stores.objects[url] = PROPERTIES.format("primary").encode() + b"obs_title=\xff\r\n"
    with pytest.raises(MarginCacheError, match=f"^{url}: cannot be read as properties"):
        loaded(margin).output.register(margin.plan.parameters.catalog, True)
