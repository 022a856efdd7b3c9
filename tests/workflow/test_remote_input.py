"""Margins of catalogs behind URLs are those of the same catalogs on disk, whatever servers do."""

import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from margin_cache.catalog.hats import parse_properties
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.margin.existing import listing
from margin_cache.margin.finish import finish_margin
from margin_cache.storage import obstore_store
from margin_cache.storage.object_store import ObjectChanged
from support import skies
from support.faulty_margins import make_in
from support.faulty_server import Behaviour, faulty_server
from support.hub_server import hub_server
from support.killed_runs import Run, resume
from support.margins import margin_digests, remains, tree_digest
from support.object_servers import S3, Nginx, nginx
from support.remote_catalogs import (
    NAME,
    made_in,
    only_parquet,
    size_of,
    sky_in,
)
from support.sites import error_line
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow, without_snakemake
from support.write_hats import write_collection, write_hats

SECRET = "s3cret-9f27c1"
LAYOUTS: dict[str, dict[str, Any]] = {
    "hats": {},
    "without_metadata": {"metadata": False},
    "without_list": {"partition_info": False},
    "directories": {"suffix": "/", "files_per_partition": 2},
    "old_properties": {"properties": ("properties",), "suffix": ".pq"},
    "without_index": {"index_column": None},
}


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with catalogs of all layouts."""
    root = tmp_path_factory.mktemp("catalogs")
    small_catalog(root / "hipscat")
    table, partitions = sky_in(root / "hipscat")
    for name, options in LAYOUTS.items():
        write_hats(root, name, table, partitions, row_group_size=60, **options)
    write_hats(root / "collection", "primary", table, partitions)
    write_collection(root, "collection", "primary")
    return root


@pytest.fixture(scope="module")
def web(catalogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(catalogs, tmp_path_factory.mktemp("nginx") / "own") as server:
        yield server


@pytest.fixture
def served(catalogs: Path) -> Iterator[Behaviour]:
    with faulty_server(catalogs) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = timedelta(milliseconds=2)
    backoff = {"init_backoff": pause, "max_backoff": pause, "base": 2}
    monkeypatch.setitem(obstore_store.RETRIES, "backoff", backoff)


@pytest.mark.parametrize("name", ["hipscat", *LAYOUTS, "collection"])
def test_a_catalog_on_a_web_server_gives_the_same_margin_as_on_disk(
    name: str, catalogs: Path, web: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = web.bytes_sent()
    remote = made_in(monkeypatch, tmp_path / "remote", f"{web.url}/{name}")
    share = (web.bytes_sent() - before) / size_of(catalogs / name)
    print(f"{name}: {share:.3f} of the catalog's bytes were transferred")
    assert remote == made_in(monkeypatch, tmp_path / "local", catalogs / name)
    assert len(remote) > 10
    assert share <= 1.02


def test_margins_of_a_remote_primary_are_listed_in_a_local_collection(
    catalogs: Path, web: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that is listed becomes the default, though it is finished last."""
    write_collection(tmp_path, "mine", f"{web.url}/collection/primary")
    margins = [{"margin_threshold": 60.0}, {"margin_threshold": 30.0}]
    config = {"input_catalog_path": "mine", "output_path": "mine", "margins": margins}
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        for margin in [*without_snakemake(config)][::-1]:
            finish_margin(margin)
            is_default = margin.name == "primary_60arcs"
            assert listing(margin) == {"collection": "mine", "is_default": is_default}
    values = parse_properties((tmp_path / "mine/collection.properties").read_bytes(), "mine")
    assert values["all_margins"] == "primary_30arcs primary_60arcs"
    assert values["default_margin"] == "primary_60arcs"
    local = made_in(monkeypatch, tmp_path / "local", catalogs / "collection")
    assert local == only_parquet(tree_digest(tmp_path / "mine/primary_60arcs"))


def test_a_catalog_on_hugging_face_gives_the_same_margin_as_on_disk(
    catalogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its versions are noticed, though its driver keeps listings."""
    shutil.copytree(catalogs, tmp_path / "hub/team")
    changing: list[Path] = []

    def change(file: Path) -> None:
        if changing and "Npix" in file.name:
            changing.append(file)
            content = bytearray(file.read_bytes())
            content[9] ^= 1
            file.write_bytes(content)

    def made_from_hub(place: str) -> dict[str, str]:
        options = {"endpoint": url}
        source = "hf://datasets/team/collection"
        return made_in(monkeypatch, tmp_path / place, source, input_storage_options=options)

    with hub_server(tmp_path / "hub", SECRET, change) as url:
        monkeypatch.setenv("HF_TOKEN", SECRET)
        local = made_in(monkeypatch, tmp_path / "local", catalogs / "collection")
        assert made_from_hub("remote") == local
        changing.append(tmp_path)
        with pytest.raises(ObjectChanged) as error:
            made_from_hub("changed")
        assert changing[1].name in str(error.value)
        monkeypatch.setenv("HF_TOKEN", "another")
        with pytest.raises(MarginCacheError, match=r"hf://datasets/team/collection") as refused:
            made_from_hub("refused")
        assert "\n" not in str(refused.value) and "another" not in str(refused.value)
        print(refused.value)


@pytest.mark.parametrize("name", ["hipscat", "without_list", "directories", "collection"])
def test_a_catalog_in_s3_gives_the_same_margin_as_on_disk(
    name: str, catalogs: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3.upload(catalogs / name, f"layouts/{name}")
    options = {"anon": True, "endpoint_url": s3.endpoint}
    remote = made_in(monkeypatch, tmp_path / "remote", url, input_storage_options=options)
    assert remote == made_in(monkeypatch, tmp_path / "local", catalogs / name)


def test_row_groups_without_candidates_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 row groups of a partition, in nested order, 36 lie in its middle."""
    rng = np.random.default_rng(3)
    partitions = np.array([[0, 4], [0, 5]])
    ra, dec = skies.uniform_sky(rng, 700_000)
    kept = skies.inside(skies.nested_pixels(ra, dec), partitions)
    columns = {f"c{number}": rng.normal(size=kept.sum()) for number in range(20)}
    table = pa.table({"ra": ra[kept], "dec": dec[kept], **columns})
    rows = table.num_rows // 2 // 64 + 1
    write_hats(tmp_path / "sky", "even", table, partitions, row_group_size=rows)
    with faulty_server(tmp_path / "sky") as server:
        remote = made_in(monkeypatch, tmp_path / "remote", f"{server.url}/even")
        share = server.bytes_sent / size_of(tmp_path / "sky")
    print(f"{share:.3f} of the catalog's bytes were transferred")
    assert remote == made_in(monkeypatch, tmp_path / "local", tmp_path / "sky/even")
    assert share < 0.6


@pytest.mark.parametrize("name", ["hipscat", "hats", "directories"])
def test_failures_of_one_in_ten_requests_do_not_change_the_margin(
    name: str,
    catalogs: Path,
    served: Behaviour,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    impatient: None,
) -> None:
    served.fails_each = 10
    remote = made_in(monkeypatch, tmp_path / "remote", f"{served.url}/{name}")
    gets = [path for method, path in served.requests if method == "GET" and "Norder" in path]
    # Of a file, there are two of its footer, and one of all its small row groups.
    assert 40 < len(gets) < 4 * len(set(gets))
    assert remote == made_in(monkeypatch, tmp_path / "local", catalogs / name)


def test_a_server_that_ignores_ranges_is_named_in_the_error(
    served: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    served.ignores_range = True
    with pytest.raises(RetryableError, match=r"hats.*the server ignores range requests") as error:
        made_in(monkeypatch, tmp_path / "remote", f"{served.url}/hats")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("before_last", [3, 5, 12, 20])
def test_an_object_that_changes_during_a_run_makes_no_margin(
    before_last: int,
    catalogs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is changed in the moment in which a part of it is asked for: in any job, or before all."""
    shutil.copytree(catalogs / "hats", tmp_path / "sky/hats")
    changed: list[Path] = []
    with faulty_server(tmp_path / "sky") as server:
        made_in(monkeypatch, tmp_path / "first", f"{server.url}/hats")
        requests = len([method for method, _ in server.requests if method == "GET"])

        def change(path: Path, number: int) -> None:
            if number >= 2 * requests - before_last and "Norder" in str(path) and not changed:
                changed.append(path)
                path.write_bytes(path.read_bytes()[:-8] + b"\0" * 4 + b"PAR1")

        server.before = change
        with pytest.raises(MarginCacheError) as error:
            made_in(monkeypatch, tmp_path / "second", f"{server.url}/hats")
        below = changed[0].relative_to(tmp_path / "sky").as_posix()
        assert str(error.value).startswith(f"{server.url}/{below}: ")
        assert "changed after the run began" in str(error.value)


def configured(catalog: str, **changes: Any) -> dict[str, Any]:
    return {
        "input_catalog_path": catalog,
        "output_artifact_name": NAME,
        "margin_threshold": 60.0,
        "partitions_per_job": 5,
        **changes,
    }


def made_locally(directory: Path, catalog: Path) -> None:
    """Make the margin of a catalog on disk in the directory local, without Snakemake."""
    (directory / "local").mkdir()
    make_in(directory / "local", configured(str(catalog)))


def test_a_run_keeps_secrets_out_of_its_files(
    catalogs: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options come from a configuration file outside, others from the environment."""
    url = s3.upload(catalogs / "hats", "secrets/hats")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SECRET}-environment")
    config = tmp_path / "outside" / "secrets.yaml"
    config.parent.mkdir()
    config.write_text(
        f"input_storage_options:\n  key: {SECRET}-key\n  secret: {SECRET}-secret\n"
        f"  endpoint_url: {s3.endpoint}\n"
    )
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            lines = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
            seen.append("\n".join(" ".join(line) for line in lines))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        made_locally(tmp_path, catalogs / "hats")
        finished = run_workflow(
            tmp_path / "run",
            "--configfile",
            config,
            config=configured(url, progress_bar=False),
            check=True,
        )
        again = run_workflow(tmp_path / "run", "--configfile", config, "--summary", check=True)
    finally:
        done.set()
        watching.join()
    assert any("map_partitions.py" in listed for listed in seen)
    assert not any(SECRET in listed for listed in seen)
    assert SECRET not in finished.stdout + again.stdout
    assert f"of {url} within 60 arcsec" in finished.stdout
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
    margin = tmp_path / "run/results" / NAME
    assert only_parquet(tree_digest(margin)) == only_parquet(
        tree_digest(tmp_path / "local/results" / NAME)
    )
    assert f"hats_primary_table_url={url}\n" in (margin / "properties").read_text()
    assert (
        f'"input_catalog_absolute_path": "{url}"' in (margin / "provenance_info.json").read_text()
    )
    assert remains(tmp_path / "run") == []
    assert list((tmp_path / "run/intermediate").rglob("fetched")) == []
    assert size_of(tmp_path / "run/.snakemake/remote") < 0.5 * size_of(catalogs / "hats")


def test_the_next_run_notices_a_changed_object(catalogs: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "sky/small"
    shutil.copytree(catalogs / "hipscat", catalog)
    with faulty_server(tmp_path / "sky") as server:
        config = configured(f"{server.url}/small", overwrite=True)
        run_workflow(tmp_path / "run", config=config, check=True)
        before = margin_digests(tmp_path / "run")
        sent = server.bytes_sent
        run_workflow(tmp_path / "run", check=True)
        assert server.bytes_sent - sent < 0.02 * size_of(catalog)
        small_catalog(tmp_path / "other/small", seed=2)
        shutil.rmtree(catalog)
        shutil.copytree(tmp_path / "other/small", catalog)
        run_workflow(tmp_path / "run", check=True)
    made_locally(tmp_path, catalog)
    after = only_parquet(margin_digests(tmp_path / "run"))
    assert after == only_parquet(margin_digests(tmp_path / "local"))
    assert after != only_parquet(before)


def test_a_killed_run_of_a_remote_catalog_resumes_to_the_same_bytes(
    catalogs: Path, tmp_path: Path
) -> None:
    made_locally(tmp_path, catalogs / "hats")
    with faulty_server(catalogs) as server:
        server.latency = 0.1
        directory = tmp_path / "run"
        run_workflow(directory, "-n", config=configured(f"{server.url}/hats"), check=True)
        run = Run(directory)
        run.wait_for(lambda: list(directory.glob("intermediate/*/*/fetched/*/*")))
        assert run.runs()
        run.kill_group()
        left = list(directory.glob("intermediate/*/*/fetched/*"))
        resume(directory)
    assert left
    assert list((directory / "intermediate").rglob("fetched")) == []
    assert only_parquet(tree_digest(directory / "results" / NAME)) == only_parquet(
        tree_digest(tmp_path / "local/results" / NAME)
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"output_path": "http://sky/margins"},
            ("output_path: http://sky/margins", "is not a URL to which margins are written"),
        ),
        (
            {"output_path": f"s3://user:{SECRET}@sky/margins"},
            ("output_path: s3://...", "has a user or password"),
        ),
        (
            {"output_path": "s3://sky/margins", "create_thumbnail": True},
            ("create_thumbnail: is available for margins on disk only",),
        ),
        ({"tmp_dir": "s3://sky/tmp"}, ("tmp_dir: is a URL", "need a directory")),
        (
            {"input_catalog_path": f"https://user:{SECRET}@example.org/sky"},
            ("input_catalog_path: https://...", "has a user or password"),
        ),
        (
            {"input_catalog_path": f"https://example.org/sky?token={SECRET}"},
            ("input_catalog_path: https://example.org/sky", "has a query or fragment"),
        ),
        (
            {"input_catalog_path": "s3://sky/a", "input_storage_options": {"anonymous": True}},
            ("input_storage_options: anonymous is not an option for s3://. Known are",),
        ),
        ({"input_catalog_path": "sftp://127.0.0.1/sky"}, ('requires "paramiko" to be installed',)),
        (
            {"input_catalog_path": "ftp://127.0.0.1:1/sky"},
            ("ftp://127.0.0.1:1/sky: cannot connect",),
        ),
        ({"input_catalog_path": "file:///sky"}, ("without file://",)),
    ],
)
def test_an_unsupported_location_is_refused_with_one_line(
    config: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    finished = run_workflow(tmp_path, config=configured("sky", **config))
    line = error_line(finished)
    assert all(word in line for word in words), line
    assert SECRET not in finished.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"config", ".snakemake"}


def test_secrets_on_the_command_line_are_refused(tmp_path: Path) -> None:
    options = f"input_storage_options={{key: {SECRET}, secret: {SECRET}}}"
    line = error_line(
        run_workflow(tmp_path, "--config", "input_catalog_path=s3://sky/none", options)
    )
    assert "input_storage_options: key could be a secret" in line
    assert SECRET not in line


def test_a_missing_catalog_is_named_by_its_url(served: Behaviour, tmp_path: Path) -> None:
    line = error_line(run_workflow(tmp_path, config=configured(f"{served.url}/nowhere")))
    assert f"{served.url}/nowhere: is neither a HiPSCat catalog" in line


def test_a_damaged_partition_is_named_by_its_url(tmp_path: Path) -> None:
    catalog = small_catalog(tmp_path / "sky/small")
    damaged = sorted(catalog.glob("Norder=*/Dir=0/*"))[-1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with faulty_server(tmp_path / "sky") as server:
        line = error_line(run_workflow(tmp_path / "run", config=configured(f"{server.url}/small")))
        assert f"{server.url}/small/{damaged.relative_to(catalog).as_posix()}: cannot be" in line


def test_a_dry_run_writes_nothing_outside_of_snakemakes_directory(
    served: Behaviour, tmp_path: Path
) -> None:
    for argument in ("-n", "--lint", "--summary"):
        run_workflow(tmp_path, argument, config=configured(f"{served.url}/hipscat"), check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"config", ".snakemake"}
