"""A map job downloads its partitions into a directory of its own, which is deleted at its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from margin_cache.config.validation import settings_of_margins
from margin_cache.errors import MarginCacheError
from margin_cache.margin import map as mapping
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import Margin, load_margins, save_margin
from margin_cache.margin.prepare import prepare_margins, start_margin
from margin_cache.margin.remote import use_catalog
from support.faulty_server import Behaviour, faulty_server
from support.margins import configuration
from support.stages import release_locks


@pytest.fixture
def served(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    (catalog.parent / "run").mkdir()
    monkeypatch.chdir(catalog.parent / "run")
    with faulty_server(catalog.parent) as server:
        yield server


@pytest.fixture
def margin(served: Behaviour) -> Margin:
    config = configuration(Path("sky"), partitions_per_job=6)
    config["input_catalog_path"] = f"{served.url}/sky"
    (margin,) = prepare_margins(settings_of_margins(config))
    save_margin(margin)
    return margin


def test_a_url_with_two_kinds_of_options_is_refused(served: Behaviour, catalog: Path) -> None:
    """It could be two catalogs, in two stores; a collection and its table are one."""
    (catalog.parent / "collection.properties").write_text("hats_primary_table_url=sky\n")
    url, other = served.url, {"input_storage_options": {"verify": True}}
    config = configuration(Path("sky")) | {"input_catalog_path": f"{url}/sky"}
    two: dict[str, Any] = config | {"margins": [{}, {"output_artifact_name": "two"}]}
    assert len(prepare_margins(settings_of_margins(two))) == 2
    for place in (f"{url}/sky", f"{url}/sky/", url):
        two["margins"][1] |= {"input_catalog_path": place, **other}
        with pytest.raises(MarginCacheError, match=f"^input_storage_options: .* for {place}, so"):
            prepare_margins(settings_of_margins(two))


def test_concurrent_jobs_have_their_own_downloads(margin: Margin) -> None:
    with (
        mapping._reader_of(margin.plan, 0, margin.files) as one,
        mapping._reader_of(margin.plan, 0, margin.files) as two,
    ):
        first = margin.plan.files_of(0)[0]
        files = [reader.open(first) for reader in (one, two)]
        assert len({file.path for file in files}) == 2
        assert files[0].path.read_bytes()[-4:] == b"PAR1"
        assert len(list(margin.files.downloads_dir.iterdir())) == 2
    assert list(margin.files.downloads_dir.iterdir()) == []


def test_downloads_are_deleted_file_by_file(
    margin: Margin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "_WINDOW_FILES", 1)
    monkeypatch.setattr(mapping, "_WINDOW_BYTES", 1)
    monkeypatch.setattr(mapping, "_PREFETCH_BYTES", 1)
    there: list[int] = []
    shard_rows = mapping._shard_rows

    def counted(found, *others):
        there.append(len(list(margin.files.downloads_dir.glob("*/*"))))
        assert found.file.local_path.exists()
        yield from shard_rows(found, *others)

    monkeypatch.setattr(mapping, "_shard_rows", counted)
    monkeypatch.setattr("margin_cache.parquet.remote_reader._AHEAD_FILES", 1)
    plan = margin.plan
    map_partitions(plan, 0, margin.files.shard(plan.map_names[0]))
    assert len(there) == 6
    assert 1 <= min(there) <= max(there) <= 3


def test_other_processes_load_a_margin_without_requests(margin: Margin, served: Behaviour) -> None:
    served.requests.clear()
    (loaded,) = load_margins([margin.settings])
    assert loaded.plan.plan_id == margin.plan.plan_id
    assert loaded.plan.map_names == margin.plan.map_names
    assert served.requests == []


def test_jobs_read_files_in_the_state_of_the_plan(
    margin: Margin, served: Behaviour, catalog: Path
) -> None:
    path = margin.plan.files_of(0)[-1]
    file = use_catalog(margin.plan.parameters.catalog.url, margin.files).open_parquet(path)
    assert file.read(["ra"]).num_rows == file.metadata.num_rows > 0
    (catalog / path).write_bytes((catalog / path).read_bytes() + b"!")
    file = use_catalog(margin.plan.parameters.catalog.url, margin.files).open_parquet(path)
    with pytest.raises(MarginCacheError, match=f"^{served.url}/sky/{path}: changed after the run"):
        file.read(["ra"])


def test_error_names_the_url_and_leaves_nothing(
    margin: Margin, served: Behaviour, catalog: Path
) -> None:
    path = next(catalog.rglob("Npix=*"))
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(MarginCacheError, match=f"^{served.url}/sky/Norder=.* changed after"):
        for job, name in enumerate(margin.plan.map_names):
            map_partitions(margin.plan, job, margin.files.shard(name))
    assert list(margin.files.downloads_dir.iterdir()) == []
    assert list(margin.files.shards_dir.glob(".*")) == []


def test_downloads_of_killed_jobs_are_deleted_when_a_run_starts(margin: Margin) -> None:
    (margin.files.downloads_dir / "00000-dead/Norder=0").mkdir(parents=True)
    start_margin(margin)
    release_locks()
    assert not margin.files.downloads_dir.exists()
