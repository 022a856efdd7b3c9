"""Margins in stores are those on disk, complete or not there, whatever happens to their runs."""

import json
import os
import random
import re
import shutil
import threading
import time
from contextlib import chdir
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from margin_cache.storage import obstore_store
from support.cloud_servers import Cloud
from support.faulty_margins import make_margins
from support.faulty_proxy import faulty_proxy
from support.killed_runs import Run, resume
from support.object_servers import BUCKET, S3, Bucket
from support.remote_catalogs import (
    NAME,
    configured,
    made_on_disk,
    only_parquet,
    size_of,
    small_catalogs,
)
from support.sites import error_line
from support.stages import release_locks
from support.workflow_runs import TIME_LIMIT, run_workflow

SECRET = "s3cret-5d81e0"
FEW_KILLS = {"s3": 8, "gs": 2, "az": 2}
KILLS = {store: int(os.environ.get("KILLS", few)) for store, few in FEW_KILLS.items()}
"""Kills of runs that write to a store."""


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalogs(tmp_path_factory.mktemp("catalogs"))


def without_dates(digests: dict[str, str]) -> dict[str, str]:
    """Digests of what does not say when and where a margin was made."""
    told = ("provenance_info.json", "properties", "catalog_info.json")
    return {name: digest for name, digest in digests.items() if not name.endswith(told)}


def test_a_margin_in_the_collection_of_its_catalog(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    """All in S3: no byte is transferred twice, nothing stays on disk, and it has a report."""
    url = s3.upload(catalogs / "collection", "collection")
    local = tmp_path / "local"
    expected = made_on_disk(local, catalogs / "collection/primary", s3)
    run = tmp_path / "run"
    with faulty_proxy(s3.endpoint) as proxy:
        through = s3.through(proxy.url)
        config = configured(url, through, "collection", delete_intermediate_parquet_files=False)
        finished = run_workflow(run, config=config, check=True)
        down, up = proxy.bytes_down.copy(), proxy.bytes_up
        margin = s3.states(f"collection/{NAME}")
        written = sum(len(s3.read(f"collection/{NAME}/{path}")) for path in margin)
        found = s3.digests(f"collection/{NAME}")
        assert without_dates(found) == without_dates(expected)
        assert found.keys() == expected.keys() and len(only_parquet(found)) > 10
        assert f"s3://{BUCKET}/collection/{NAME}: " in finished.stdout
        assert not (run / "results").exists() and list(run.rglob("*.staging")) == []
        lines = s3.read("collection/collection.properties").decode().splitlines()
        assert {f"all_margins={NAME}", f"default_margin={NAME}"} <= set(lines)
        again = run_workflow(run, check=True)
        assert "Nothing to be done" in again.stdout
        run_workflow(run, "report", check=True)
    # The lock and the provenance of the unfinished margin are small.
    read = sum(size for path, size in down.items() if f"/{NAME}/" not in path)
    print(f"{read} bytes of the catalog were read, {up} for {written} of the margin written")
    assert read <= 1.02 * size_of(catalogs / "collection/primary") + 2000
    assert up <= 1.02 * written + 10_000
    assert s3.digests(f"collection/{NAME}") == found
    rows = int(re.search(rf"{NAME}: (\d+) rows in ", finished.stdout)[1])
    assert f"60 arcsec with {rows:,} rows" in (run / f"{NAME}_report/index.html").read_text()
    config = configured(catalogs / "hats", s3, "twins/a")
    config["margins"] = [
        {"output_path": f"s3://{BUCKET}/twins/{place}", "tmp_dir": place} for place in "ab"
    ]
    line = error_line(run_workflow(tmp_path / "twins", "report", config=config))
    assert f"several reports would be written to {NAME}_report" in line


def test_failures_of_one_in_ten_requests_do_not_change_the_margin(
    catalogs: Path, s3: S3, tmp_path: Path
) -> None:
    """Nor do objects that are lost or replaced afterwards: the next run makes them again."""
    expected = made_on_disk(tmp_path / "local", catalogs / "hipscat", s3)
    with faulty_proxy(s3.endpoint) as proxy:
        proxy.fails_each = 10
        config = configured(catalogs / "hipscat", s3.through(proxy.url), "failing")
        run_workflow(tmp_path / "run", config=config, check=True)
        assert proxy.failed >= 5
    found = s3.digests(f"failing/{NAME}")
    assert without_dates(found) == without_dates(expected)
    assert found.keys() == expected.keys()
    lost, replaced, *_ = sorted(only_parquet(found))
    s3.remove(f"failing/{NAME}/{lost}")
    for path in (replaced, "partition_info.csv"):
        s3.write(f"failing/{NAME}/{path}", bytes(len(s3.read(f"failing/{NAME}/{path}"))))
    config = configured(catalogs / "hipscat", s3, "failing")
    run_workflow(tmp_path / "run", config=config, check=True)
    found = s3.digests(f"failing/{NAME}")
    assert without_dates(found) == without_dates(expected)
    assert found.keys() == expected.keys()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = timedelta(milliseconds=2)
    backoff = {"init_backoff": pause, "max_backoff": pause, "base": 2}
    monkeypatch.setitem(obstore_store.RETRIES, "backoff", backoff)


def made(directory: Path, config: dict[str, Any]) -> None:
    """Make a margin in a store in this process: obstore does not work in a fork of one."""
    directory.mkdir(exist_ok=True)
    with chdir(directory):
        make_margins(config)
        release_locks()


@pytest.mark.parametrize("server", ["gs", "az"], indirect=True)
def test_failures_of_one_in_four_requests_to_a_cloud_do_not_change_the_margin(
    catalogs: Path,
    server: Cloud,
    tmp_path: Path,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a catalog on disk and of one in the same store; credentials are in the environment."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    expected = made_on_disk(tmp_path / "local", catalogs / "hats", server)
    url = server.upload(catalogs / "hats", "failing/primary")
    with faulty_proxy(server.endpoint) as proxy:
        proxy.fails_each = 4
        options = {"endpoint_url": server.through(proxy.url).options["endpoint_url"]}
        for catalog, place in ((catalogs / "hats", "failing/a"), (url, "failing/b")):
            config = configured(catalog, server, place)
            config["output_storage_options"] = options
            config |= {"input_storage_options": options} if catalog == url else {}
            made(tmp_path / "run", config)
            found = server.digests(f"{place}/{NAME}")
            assert without_dates(found) == without_dates(expected)
            assert found.keys() == expected.keys()
            assert len(opened(server, f"{place}/{NAME}")) > 10
        assert proxy.failed >= 20
        lost, replaced, *_ = (f"{place}/{NAME}/{path}" for path in sorted(only_parquet(found)))
        server.remove(lost)
        server.write(replaced, bytes(len(server.read(replaced))))
        made(tmp_path / "run", config)
    assert without_dates(server.digests(f"{place}/{NAME}")) == without_dates(expected)


def test_two_runs_do_not_write_one_margin_at_once(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    """A run that was killed keeps the lock; one that has failed or ended does not."""
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


def test_a_run_that_fails_leaves_no_lock(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    """And a store that is away ends a run with one line."""
    with faulty_proxy(s3.endpoint) as proxy:
        options = s3.through(proxy.url)
        config = configured(catalogs / "hats", options, "failed")
        config["output_path"] = "s3://nowhere/margins"
        line = error_line(run_workflow(tmp_path, config=config))
        assert "s3://nowhere/margins" in line and "bucket" in line
        catalog = tmp_path / "damaged/hats"
        shutil.copytree(catalogs / "hats", catalog)
        partition = min(catalog.rglob("Npix=*.parquet"))
        content = partition.read_bytes()
        footer = int.from_bytes(content[-8:-4], "little") + 8
        partition.write_bytes(content[:4] + bytes(len(content) - 4 - footer) + content[-footer:])
        config = configured(catalog, options, "failed")
        finished = run_workflow(tmp_path, config=config)
        assert finished.returncode and "Traceback" not in finished.stdout
        assert str(partition) in finished.stdout
        assert s3.states("failed") == {}
        proxy.is_down = True
        line = error_line(run_workflow(tmp_path))
        assert f"s3://{BUCKET}/failed/" in line


def test_secrets_for_the_output_are_written_nowhere(catalogs: Path, s3: S3, tmp_path: Path) -> None:
    """Nor when the margin is audited in the store."""
    secrets = tmp_path / "outside/secrets.yaml"
    secrets.parent.mkdir()
    options = {**s3.options, "key": f"{SECRET}-key", "secret": f"{SECRET}-secret"}
    secrets.write_text(json.dumps({"output_storage_options": options}))
    config = configured(catalogs / "hats", s3, "secrets")
    del config["output_storage_options"]
    run = tmp_path / "run"
    finished = run_workflow(run, "--configfile", secrets, config=config, check=True)
    audited = run_workflow(run, "audit", "--configfile", secrets, check=True)
    assert f"audit: s3://{BUCKET}/secrets/{NAME} is clean" in audited.stdout
    assert f"details: {NAME}_audit/audit.json" in audited.stdout
    run_workflow(run, "report", "--configfile", secrets, check=True)
    page = (run / f"{NAME}_report/index.html").read_text()
    assert "The margin is clean." in page
    assert SECRET not in finished.stdout + audited.stdout + page
    for file in run.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
    for path in s3.states("secrets"):
        assert SECRET.encode() not in s3.read(f"secrets/{path}"), path
    given = f"output_storage_options={{key: {SECRET}, secret: {SECRET}}}"
    line = error_line(run_workflow(tmp_path / "given", "--config", given, config=config))
    assert "output_storage_options: key could be a secret" in line


def opened(server: Bucket, place: str) -> Any:
    """A margin as hats opens it where it lies."""
    from hats import read_hats

    return read_hats(server.url(place), storage_options=server.hats_options)


class Reader:
    """Reads a margin in a loop, and keeps what was wrong with one that could be opened."""

    def __init__(self, server: Bucket, place: str, expected: list[dict[str, str]]) -> None:
        self._server, self._place, self._expected = server, place, expected
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.whole, self.absent, self.wrong = 0, 0, []

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def wait(self) -> None:
        """Wait until the margin, complete by now, was opened once more."""
        seen, end = self.whole, time.monotonic() + TIME_LIMIT
        while self.whole == seen:
            assert self._thread.is_alive() and time.monotonic() < end
            time.sleep(0.05)

    def _opened(self) -> bool:
        try:
            opened(self._server, self._place)
        except Exception:
            return False
        return True

    def _read(self) -> None:
        while not self._done.is_set():
            found = self._found()
            self.whole += found is not None
            self.absent += found is None
            if found is not None and found not in self._expected:
                self.wrong.append(found)

    def _found(self) -> dict[str, str] | None:
        """Digests of a margin that can be opened; None if there is none, or it was replaced."""
        states = self._server.states(self._place)
        if not self._opened():
            return None
        try:
            found = only_parquet(self._server.digests(self._place))
        except Exception:  # an object was removed after it was listed
            return None
        is_same = self._opened() and states == self._server.states(self._place)
        return found if is_same else None


@pytest.mark.long
@pytest.mark.parametrize(("server", "kills"), KILLS.items(), indirect=["server"])
def test_killed_runs_leave_a_margin_in_a_store_whole_or_unopenable(
    catalogs: Path, server: Bucket, kills: int, tmp_path: Path
) -> None:
    """Runs of several thresholds replace it, and are killed between any two requests."""
    directory, place = tmp_path / "run", f"killed/{NAME}"
    thresholds = [("--config", f"margin_threshold={threshold}") for threshold in (30, 60)]
    with faulty_proxy(server.endpoint) as proxy:
        config = configured(catalogs / "hats", server.through(proxy.url), "killed", overwrite=True)
        expected = []
        for threshold in thresholds:
            proxy.requests = 0
            run_workflow(directory, *threshold, config=config, check=True)
            expected.append(only_parquet(server.digests(place)))
        digests = server.digests(place)
        of_a_run = proxy.requests
        random.seed(20)
        interrupted = 0
        with Reader(server, place, expected) as reader:
            for number in range(kills):
                run = Run(directory, *thresholds[number % 2])
                # The first one surely at work; others perhaps at their end, or after it.
                last = proxy.requests + (random.randrange(8, of_a_run) if number else of_a_run // 2)
                run.wait_for(lambda last=last: proxy.requests >= last)
                interrupted += run.runs()
                run.kill_group()
                if number % 4 == 3 or number == kills - 1:
                    resume(directory)
                    reader.wait()
                    found = server.digests(place)
                    assert without_dates(found) == without_dates(digests)
                    assert ".being_made.json" not in found
    print(
        f"{kills} kills, {interrupted} while the run was at work: opened {reader.whole} times, all "
        f"whole; not to be opened {reader.absent} times"
    )
    assert reader.wrong == []
    assert interrupted > 0
