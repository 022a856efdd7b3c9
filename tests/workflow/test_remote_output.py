"""Margins in stores of objects are those on disk, whole or not there, whatever happens."""

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.faulty_proxy import faulty_proxy
from support.killed_runs import Run, resume
from support.object_servers import BUCKET, S3, Nginx, nginx
from support.remote_catalogs import (
    NAME,
    configured,
    made_on_disk,
    only_parquet,
    size_of,
    small_catalogs,
)
from support.sites import error_line
from support.workflow_runs import run_workflow, set_in_runs

SECRET = "s3cret-5d81e0"
KILLS = 8


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalogs(tmp_path_factory.mktemp("catalogs"))


@pytest.fixture(scope="module")
def web(catalogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(catalogs, tmp_path_factory.mktemp("nginx") / "own") as server:
        yield server


def without_dates(digests: dict[str, str]) -> dict[str, str]:
    """Digests of what does not say when and where a margin was made."""
    told = ("provenance_info.json", "properties", "catalog_info.json")
    return {name: digest for name, digest in digests.items() if not name.endswith(told)}


@pytest.mark.parametrize("name", ["hipscat", "directories"])
def test_a_margin_written_to_s3_equals_one_on_disk(
    name: str, catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    expected = made_on_disk(tmp_path / "local", catalogs / name, s3)
    place = f"from_disk_{name}"
    config = configured(catalogs / name, s3, place)
    finished = run_workflow(tmp_path / "run", config=config, check=True)
    found = s3.digests(f"{place}/{NAME}")
    assert without_dates(found) == without_dates(expected)
    assert found.keys() == expected.keys()
    assert len(only_parquet(found)) > 10
    assert f"s3://{BUCKET}/{place}/{NAME}: " in finished.stdout
    assert f"in s3://{BUCKET}/{place}\n" in finished.stdout
    # Nothing of the margin stays on disk, but where there is a name for it.
    assert not (tmp_path / "run/results").exists()
    listed_files = list((tmp_path / "run/.snakemake/remote").rglob("Npix=*"))
    assert sum(512 * path.stat().st_blocks for path in listed_files if path.is_file()) == 0
    again = run_workflow(tmp_path / "run", check=True)
    assert "Nothing to be done" in again.stdout
    assert s3.digests(f"{place}/{NAME}") == found


def test_a_margin_in_s3_has_a_report_in_the_working_directory(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    url = s3.upload(catalogs / "hats", "reported/hats")
    config = configured(url, s3, "reported", delete_intermediate_parquet_files=False)
    run_workflow(tmp_path / "run", config=config, check=True)
    before = s3.digests(f"reported/{NAME}")
    run_workflow(tmp_path / "run", "report", check=True)
    assert (tmp_path / f"run/{NAME}_report/index.html").exists()
    made_on_disk(tmp_path / "local", catalogs / "hats", s3, delete_intermediate_parquet_files=False)
    run_workflow(tmp_path / "local", "report", check=True)
    of_disk = tmp_path / f"local/results/{NAME}_report"
    for figure in ("margin_rows.png", "margin_share.png", "histograms.png", "partition.png"):
        found = (tmp_path / f"run/{NAME}_report" / figure).read_bytes()
        assert found == (of_disk / figure).read_bytes(), figure
    assert s3.digests(f"reported/{NAME}") == before
    line = error_line(run_workflow(tmp_path / "run", "audit"))
    assert "output_path" in line or "input_catalog_path" in line
    assert "is a URL, and an audit reads local files only" in line


def test_reports_of_two_margins_of_one_name_are_refused(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    config = configured(catalogs / "hats", s3, "twins/a")
    config["margins"] = [{"output_path": f"s3://{BUCKET}/twins/{place}"} for place in "ab"]
    line = error_line(run_workflow(tmp_path, "report", config=config))
    assert f"s3://{BUCKET}/twins/a/{NAME} and s3://{BUCKET}/twins/b/{NAME} would both be" in line
    assert s3.states("twins") == {}


@pytest.mark.parametrize("name", ["hats"])
def test_a_margin_from_s3_to_s3_equals_one_on_disk(
    name: str, catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    expected = made_on_disk(tmp_path / "local", catalogs / name, s3)
    url = s3.upload(catalogs / name, f"input/{name}")
    place = f"from_s3_{name}"
    run_workflow(tmp_path / "run", config=configured(url, s3, place), check=True)
    assert without_dates(s3.digests(f"{place}/{NAME}")) == without_dates(expected)


def test_a_margin_from_a_web_server_to_s3_equals_one_on_disk(
    catalogs: Path, s3: S3, web: Nginx, tmp_path: Path
) -> None:
    expected = made_on_disk(tmp_path / "local", catalogs / "hats", s3)
    config = configured(f"{web.url}/hats", s3, "from_web")
    run_workflow(tmp_path / "run", config=config, check=True)
    assert without_dates(s3.digests(f"from_web/{NAME}")) == without_dates(expected)


def test_no_byte_is_transferred_twice(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    url = s3.upload(catalogs / "hats", "counted/hats")
    with faulty_proxy(s3.endpoint) as proxy:
        config = configured(url, replace(s3, endpoint=proxy.url), "counted")
        run_workflow(tmp_path / "run", config=config, check=True)
    margin = s3.states(f"counted/{NAME}")
    written = sum(len(s3.read(f"counted/{NAME}/{path}")) for path in margin)
    # Small, and as often as there are jobs, which is often for a catalog of this size.
    lock_bytes = proxy.bytes_down.pop(f"/{BUCKET}/counted/{NAME}/.being_made.json")
    assert 0 < lock_bytes < 10_000
    down = proxy.bytes_down.total() / size_of(catalogs / "hats")
    up = proxy.bytes_up / written
    print(f"{down:.3f} of the catalog's bytes were read, {up:.3f} of the margin's written")
    assert down <= 1.02
    assert up <= 1.02


@pytest.mark.parametrize("name", ["hats"])
def test_failures_of_one_in_ten_store_requests_do_not_change_the_margin(
    name: str, catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    expected = made_on_disk(tmp_path / "local", catalogs / name, s3)
    url = s3.upload(catalogs / name, f"failing/input/{name}")
    place = f"failing/{name}"
    with faulty_proxy(s3.endpoint) as proxy:
        proxy.fails_each = 10
        config = configured(url, replace(s3, endpoint=proxy.url), place)
        run_workflow(tmp_path / "run", config=config, check=True)
        assert proxy.failed >= 8
    found = s3.digests(f"{place}/{NAME}")
    assert without_dates(found) == without_dates(expected)
    assert found.keys() == expected.keys()


def test_an_unavailable_store_ends_the_run_with_one_line(
    catalogs: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_in_runs(monkeypatch, tmp_path / "site", "storage.store_client._FIRST_PAUSE", 0.001)
    with faulty_proxy(s3.endpoint) as proxy:
        config = configured(catalogs / "hats", replace(s3, endpoint=proxy.url), "broken")
        run_workflow(tmp_path, "-n", config=config, check=True)
        proxy.is_down = True
        finished = run_workflow(tmp_path)
    assert finished.returncode
    assert "Traceback" not in finished.stdout
    assert f"s3://{BUCKET}/broken/{NAME}" in error_line(finished)


def test_missing_or_changed_objects_are_rebuilt(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    config = configured(catalogs / "hats", s3, "mended", delete_intermediate_parquet_files=False)
    run_workflow(tmp_path, config=config, check=True)
    margin = f"mended/{NAME}"
    expected = s3.digests(margin)
    rows = sorted(path for path in expected if "Npix" in path)
    for path in (rows[0], "partition_info.csv"):
        before = s3.read(f"{margin}/{path}")
        for content in (None, bytes(len(before))):
            if content is None:
                s3.remove(f"{margin}/{path}")
            else:
                s3.write(f"{margin}/{path}", content)
            run_workflow(tmp_path, check=True)
            assert without_dates(s3.digests(margin)) == without_dates(expected), path
    assert "Nothing to be done" in run_workflow(tmp_path, check=True).stdout


@pytest.mark.long
def test_only_changed_objects_are_written_again(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    shutil.copytree(catalogs / "hats", tmp_path / "hats")
    config = configured(
        tmp_path / "hats", s3, "changed", partitions_per_job=1, job_size_mb=1, overwrite=True
    )
    run_workflow(tmp_path / "run", config=config, check=True)
    client = s3.client()
    page = client.list_objects_v2(Bucket=BUCKET, Prefix=f"changed/{NAME}/dataset/Norder")
    before = {each["Key"]: each["LastModified"] for each in page["Contents"]}
    time.sleep(1.1)  # dates of objects are in whole seconds
    file = sorted((tmp_path / "hats").rglob("Npix=*"))[0]
    file.write_bytes(file.read_bytes()[:-8] + file.read_bytes()[-8:])
    run_workflow(tmp_path / "run", check=True)
    page = client.list_objects_v2(Bucket=BUCKET, Prefix=f"changed/{NAME}/dataset/Norder")
    after = {each["Key"]: each["LastModified"] for each in page["Contents"]}
    written = [key for key in after if after[key] != before[key]]
    assert after.keys() == before.keys()
    assert 0 < len(written) < len(after)


def test_objects_that_are_no_margin_are_not_replaced(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    s3.write(f"photographs/{NAME}/moon.jpg", b"x")
    config = configured(catalogs / "hats", s3, "photographs")
    line = error_line(run_workflow(tmp_path, config=config))
    assert f"s3://{BUCKET}/photographs/{NAME} exists and was not made by this workflow" in line
    line = error_line(run_workflow(tmp_path, config={**config, "overwrite": True}))
    assert "metadata do not describe a margin" in line
    assert list(s3.states("photographs")) == [f"{NAME}/moon.jpg"]


def test_foreign_objects_in_a_margin_are_not_deleted(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    config = configured(catalogs / "hats", s3, "foreign")
    run_workflow(tmp_path, config=config, check=True)
    s3.write(f"foreign/{NAME}/NOTES.txt", b"x")
    s3.remove(f"foreign/{NAME}/partition_info.csv")
    before = s3.digests(f"foreign/{NAME}")
    line = error_line(run_workflow(tmp_path))
    assert f"s3://{BUCKET}/foreign/{NAME}/NOTES.txt does not belong to the margin" in line
    assert s3.digests(f"foreign/{NAME}") == before
    run_workflow(tmp_path, config={**config, "overwrite": True}, check=True)
    assert "NOTES.txt" not in s3.states(f"foreign/{NAME}")


def test_other_parameters_replace_a_margin_on_demand_only(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    config = configured(catalogs / "hats", s3, "replaced")
    run_workflow(tmp_path / "run", config=config, check=True)
    before = s3.digests(f"replaced/{NAME}")
    config["margin_threshold"] = 30.0
    line = error_line(run_workflow(tmp_path / "run", config=config))
    assert "margin_threshold 60.0, not 30.0" in line
    assert s3.digests(f"replaced/{NAME}") == before
    run_workflow(tmp_path / "run", config={**config, "overwrite": True}, check=True)
    expected = made_on_disk(tmp_path / "local", catalogs / "hats", s3, margin_threshold=30.0)
    assert without_dates(s3.digests(f"replaced/{NAME}")) == without_dates(expected)


def test_two_runs_do_not_write_one_margin_in_s3_at_once(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    """The first one is killed when it has begun; so its word stays."""
    config = configured(catalogs / "hats", s3, "locked")
    first = tmp_path / "first"
    run_workflow(first, "-n", config=config, check=True)
    assert s3.states("locked") == {}
    run = Run(first)
    run.wait_for(lambda: f"{NAME}/.being_made.json" in s3.states("locked"))
    run.kill_group()
    line = error_line(run_workflow(tmp_path / "second", config=config))
    assert f"s3://{BUCKET}/locked/{NAME} is being made by another run (process " in line
    assert f"started in {first}" in line
    resume(first)
    assert ".being_made.json" not in s3.states(f"locked/{NAME}")
    again = run_workflow(tmp_path / "second", check=True)
    assert "Nothing to be done" in again.stdout


def test_a_killed_run_is_not_resumed_with_other_parameters(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    """The older margin, which it was about to make again, would be lost."""
    config = configured(catalogs / "hats", s3, "others")
    run_workflow(tmp_path, config=config, check=True)
    expected = s3.digests(f"others/{NAME}")
    run = Run(tmp_path, "--forceall")
    run.wait_for(lambda: "properties" not in s3.states(f"others/{NAME}"))
    run.kill_group()
    config["margin_threshold"] = 30.0
    line = error_line(run_workflow(tmp_path, config=config))
    assert "margin_threshold 60.0, not 30.0" in line
    config["margin_threshold"] = 60.0
    run_workflow(tmp_path, config=config)
    resume(tmp_path)
    assert without_dates(s3.digests(f"others/{NAME}")) == without_dates(expected)


def test_a_margin_is_listed_in_its_collection(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    url = s3.upload(catalogs / "collection", "collection")
    config = configured(url, s3, "collection")
    run_workflow(tmp_path, config=config, check=True)
    assert f"all_margins={NAME}\n" in s3.read("collection/collection.properties").decode()
    s3.write(
        "collection/collection.properties",
        b"obs_collection=collection\r\nhats_primary_table_url=primary\r\nall_margins=another\r\n",
    )
    run_workflow(tmp_path, check=True)
    assert s3.read("collection/collection.properties") == (
        b"obs_collection=collection\r\nhats_primary_table_url=primary\r\n"
        b"all_margins=another " + NAME.encode() + b"\r\ndefault_margin=" + NAME.encode() + b"\r\n"
    )


def test_a_missing_bucket_is_named_in_the_error(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    config = configured(catalogs / "hats", s3, "any")
    config["output_path"] = "s3://nowhere/margins"
    line = error_line(run_workflow(tmp_path, config=config))
    assert "s3://nowhere/margins" in line and "bucket" in line


def test_an_output_at_or_inside_its_catalog_is_refused(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    url = s3.upload(catalogs / "hats", "place/hats")
    for place, name in (("place", "hats"), ("place/hats", "inside")):
        config = configured(url, s3, place, output_artifact_name=name)
        line = error_line(run_workflow(tmp_path, config={**config, "overwrite": True}))
        assert "overlaps with the input catalog" in line


def test_secrets_for_the_output_are_written_nowhere(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    secrets = tmp_path / "outside/secrets.yaml"
    secrets.parent.mkdir()
    options = {**s3.options, "key": f"{SECRET}-key", "secret": f"{SECRET}-secret"}
    secrets.write_text(json.dumps({"output_storage_options": options}))
    config = configured(catalogs / "hats", s3, "secrets")
    del config["output_storage_options"]
    run = tmp_path / "run"
    finished = run_workflow(run, "--configfile", secrets, config=config, check=True)
    assert SECRET not in finished.stdout
    for file in run.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
    for path in s3.states("secrets"):
        assert SECRET.encode() not in s3.read(f"secrets/{path}"), path
    given = f"output_storage_options={{key: {SECRET}, secret: {SECRET}}}"
    line = error_line(run_workflow(tmp_path / "given", "--config", given, config=config))
    assert "output_storage_options: key could be a secret" in line


class Reader:
    """Reads a margin in a loop, and keeps what was wrong with one that could be opened."""

    def __init__(self, s3: S3, place: str, expected: dict[str, str]) -> None:
        self._s3, self._place, self._expected = s3, place, expected
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.whole, self.absent, self.wrong = 0, 0, []

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _opened(self) -> bool:
        from hats import read_hats

        options = {**self._s3.options, "use_listings_cache": False, "skip_instance_cache": True}
        try:
            read_hats(f"s3://{BUCKET}/{self._place}", storage_options=options)
        except Exception:
            return False
        return True

    def _read(self) -> None:
        while not self._done.is_set():
            before = self._opened()
            found = only_parquet(self._s3.states(self._place))
            if before and self._opened():
                self.whole += 1
                if found != self._expected:
                    self.wrong.append(found)
            else:
                self.absent += 1


@pytest.mark.long
def test_killed_runs_leave_a_margin_in_s3_whole_or_unopenable(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    directory, place = tmp_path / "run", f"killed/{NAME}"
    config = configured(catalogs / "hats", s3, "killed", partitions_per_job=2, job_size_mb=1)
    run_workflow(directory, config=config, check=True)
    expected = s3.digests(place)
    random.seed(20)
    interrupted = 0
    with Reader(s3, place, only_parquet(s3.states(place))) as reader:
        for number in range(KILLS):
            run = Run(directory, "--forceall")
            run.wait_for(lambda: ".being_made.json" in s3.states(place))
            limit = time.monotonic() + random.uniform(0, 2.5)
            run.wait_for(lambda limit=limit: time.monotonic() > limit)
            interrupted += run.runs()
            run.kill_group()
            if number % 4 == 3:
                resume(directory)
                found = s3.digests(place)
                assert without_dates(found) == without_dates(expected)
                assert ".being_made.json" not in found
    print(
        f"{KILLS} kills, {interrupted} while the run was at work: opened {reader.whole} times, all "
        f"whole; not to be opened {reader.absent} times"
    )
    assert reader.wrong == []
    assert reader.whole > 0 and interrupted > 0
