"""What has changed, and what depends on it, is made again; nothing else is, and nothing stale is
used again."""

import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import hpgeom
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin
from margin_cache.margin.reduce import reduce_margins
from support import margins
from support.faulty_margins import Site, make_margin, run_in_child
from support.killed_runs import resume, run_of
from support.margins import NAME, Digests, margin_digests, remains, tree_digest
from support.paths import ROOT
from support.small_skies import small_catalog
from support.workflow_runs import (
    SNAKEMAKE,
    fork_snakemake,
    run_workflow,
    without_snakemake,
    write_config,
)

NOTHING = "Nothing to be done"

# Without bars, which take the place of what Snakemake says of each job.
configuration = partial(margins.configuration, progress_bar=False)


def partition_paths(catalog: Path) -> list[Path]:
    return sorted(catalog.glob("Norder=*/Dir=*/Npix=*.parquet"))


def made_at_once(
    directory: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Margin:
    """Make a margin in an empty directory, without Snakemake."""
    directory.mkdir()
    write_config(directory, config)
    with monkeypatch.context() as context:
        context.chdir(directory)
        (margin,) = without_snakemake(config)
        finish_margin(margin)
    return margin


def fresh(directory: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Digests:
    """Digests of a margin that is made where there was nothing before."""
    made_at_once(directory, config, monkeypatch)
    return margin_digests(directory)


def jobs_of(output: str) -> dict[str, set[tuple[str, int]]]:
    """Margin and number of the jobs that a run, or a dry one, names; by what they do."""
    found: dict[str, set[tuple[str, int]]] = {
        "Mapping": set(),
        "Reducing": set(),
        "Finishing": set(),
    }
    pattern = r"(?m)^Job \d+: (Mapping|Reducing|Finishing) (\w+)(?:, job (\d{5}): .+)?$"
    for what, name, number in re.findall(pattern, output):
        found[what].add((name, int(number or 0)))
    return found


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("sky") / "sky", rows=3000, max_rows=500)


# --- the same bytes, however it is run ------------------------------------------------------


@pytest.fixture(scope="module")
def expected(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """The margin of the catalog."""
    with pytest.MonkeyPatch.context() as patch:
        return fresh(tmp_path_factory.mktemp("expected") / "run", configuration(catalog), patch)


@pytest.mark.parametrize(
    ("cores", "size"),
    [
        pytest.param(2, {"partitions_per_job": 1}, marks=pytest.mark.long),
        (1, {"partitions_per_job": 7}),
        pytest.param(1, {"partitions_per_job": "auto"}, marks=pytest.mark.long),
        (2, {"partitions_per_job": "auto", "job_size_mb": 0.1}),
    ],
    ids=["1", "7", "auto", "small auto"],
)
def test_cores_and_sizes_of_jobs_do_not_change_a_byte(
    tmp_path: Path, catalog: Path, expected: Digests, cores: int, size: dict[str, Any]
):
    assert "_metadata" in expected
    config = configuration(catalog, **size)
    output = run_workflow(tmp_path, config=config, cores=cores, check=True).stdout
    several = len(jobs_of(output)["Mapping"]) > 1
    assert several == (size != {"partitions_per_job": "auto"})
    assert margin_digests(tmp_path) == expected
    assert remains(tmp_path) == []


def test_the_catalogs_snakefile_makes_the_same_bytes_in_the_working_directory(
    tmp_path: Path, catalog: Path, expected: Digests, monkeypatch: pytest.MonkeyPatch
):
    """workflow/Snakefile, which the workflow catalog names; started without --directory."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, configuration(catalog))
    command = [str(SNAKEMAKE), "--cores", "2", "-s", str(ROOT / "workflow/Snakefile")]
    for said in ("reduce_margins", NOTHING):
        made = fork_snakemake(command)
        assert made.returncode == 0, made.stdout
        assert said in made.stdout
        assert margin_digests(tmp_path) == expected


# --- changed settings -----------------------------------------------------------------------

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "margin_order": (
        {"fine_filtering": False, "margin_order": 9},
        {"fine_filtering": False, "margin_order": 8},
    ),
    "fine_filtering": ({"margin_order": 9}, {"margin_order": 9, "fine_filtering": False}),
    "debug_filter_pixel_list": ({}, {"debug_filter_pixel_list": [[0, 4], [0, 5], [0, 6]]}),
}


def test_a_changed_threshold_rebuilds_the_margin_in_whole_runs(
    tmp_path: Path, catalog: Path, expected: Digests, monkeypatch: pytest.MonkeyPatch
):
    before = configuration(catalog, overwrite=True)
    after = {**before, "margin_threshold": 30.0}
    new = fresh(tmp_path / "new", after, monkeypatch)
    assert new != expected
    directory = tmp_path / "run"
    with run_of(directory, {**before, "partitions_per_job": 6}) as run:
        run.wait_for(lambda: list(directory.glob("intermediate/*/*/receipts/*.json")))
        run.kill_group()
    write_config(directory, after)
    resume(directory)
    assert margin_digests(directory) == new
    shutil.rmtree(directory / ".snakemake")
    run_workflow(directory, config=before, check=True)
    assert margin_digests(directory) == expected
    assert remains(directory) == []


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_setting_rebuilds_everything_that_depends_on_it(
    tmp_path: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch, key: str
):
    """As above, without Snakemake."""
    before, after = (configuration(catalog, overwrite=True, **values) for values in CHANGES[key])
    old, new = (
        fresh(tmp_path / name, config, monkeypatch)
        for name, config in (("old", before), ("new", after))
    )
    assert old != new
    site = Site(tmp_path / "run", before | {"partitions_per_job": 6})
    site.directory.mkdir()
    code, said = run_in_child(lambda: make_margin(site, stop_before_finishing))
    assert code == 1 and "Stopped" in said
    for config, digests in ((after, new), (before, old), (after, new)):
        changed = Site(site.directory, config)
        code, said = run_in_child(lambda changed=changed: make_margin(changed))
        assert code == 0, said
        assert margin_digests(site.directory) == digests
        assert remains(site.directory) == []


class Stopped(Exception):
    """A run that ends before its last job."""


def stop_before_finishing(stage: str) -> None:
    if stage == "finish":
        raise Stopped


# --- changed partitions ---------------------------------------------------------------------


def change(path: Path, seconds: int = 0) -> None:
    """Take a third of its rows from a partition, and date it now, or so much after what it was."""
    made = path.stat().st_mtime_ns
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.slice(table.num_rows // 3), path)
    if seconds:
        os.utime(path, ns=(made, made + seconds * 10**9))


def near(margin: Margin, partitions: set[int]) -> set[int]:
    """Partitions whose circumcircle comes within the threshold of that of one of those given."""
    orders, pixels = margin.plan.partitions.orders, margin.plan.partitions.pixels
    sides = 1 << orders
    centres = np.stack(hpgeom.pixel_to_vector(sides, pixels), axis=-1)
    corners = np.stack(
        [
            hpgeom.angle_to_vector(*hpgeom.boundaries(int(side), int(pixel)))
            for side, pixel in zip(sides, pixels, strict=True)
        ]
    )
    radii = np.arccos(np.clip(np.einsum("nki,ni->nk", corners, centres), -1, 1)).max(axis=1)
    distances = np.arccos(np.clip(centres @ centres.T, -1, 1))
    reach = radii[:, None] + radii + np.radians(margin.settings.margin_threshold / 3600) + 1e-6
    return set(np.flatnonzero((distances < reach)[sorted(partitions)].any(axis=0)).tolist())


def test_a_changed_partition_rebuilds_only_its_neighbourhood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    catalog = small_catalog(tmp_path / "sky", rows=8000, max_rows=150)
    config = configuration(catalog, partitions_per_job=1)
    directory = tmp_path / "run"
    margin = made_at_once(directory, config, monkeypatch)
    orders = margin.plan.partitions.orders
    assert 80 < len(orders) < 120
    assert NOTHING in run_workflow(directory, "-n", check=True).stdout
    changed = int(np.flatnonzero(orders == orders.max())[0])
    file = catalog / margin.plan.files_of(changed)[0]
    change(file)

    planned = jobs_of(run_workflow(directory, "-n", check=True).stdout)
    output = run_workflow(directory, check=True).stdout
    assert jobs_of(output) == planned
    owners = margin.plan.destination_partitions
    mapped = {job for _, job in planned["Mapping"]}
    reduced = {int(owners[job]) for _, job in planned["Reducing"]} - {-1}
    first = near(margin, {changed})
    second = near(margin, first)
    print(f"{len(orders)} partitions, {len(mapped)} mapped, {len(reduced)} reduced")
    assert changed in mapped
    assert changed not in reduced
    assert reduced <= first
    assert mapped <= second
    assert len(reduced) < len(orders) / 5
    assert len(mapped) < len(orders) / 2
    assert margin_digests(directory) == fresh(tmp_path / "fresh", config, monkeypatch)
    assert NOTHING in run_workflow(directory, check=True).stdout
    change(file, -1000)
    assert jobs_of(run_workflow(directory, "-n", check=True).stdout) == planned


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(-1000, id="older", marks=pytest.mark.long), pytest.param(10_000, id="future")],
)
def test_a_partition_of_another_size_and_date_keeps_the_automatic_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
):
    catalog = small_catalog(tmp_path / "sky", rows=3000, max_rows=500)
    config = configuration(catalog, partitions_per_job="auto", job_size_mb=0.05)
    directory = tmp_path / "run"
    margin = made_at_once(directory, config, monkeypatch)
    jobs = len(margin.plan.map_names)
    assert jobs > 3
    change(partition_paths(catalog)[0], seconds)
    done = jobs_of(run_workflow(directory, check=True).stdout)
    assert 0 < len(done["Mapping"]) <= jobs
    assert [path.parent.name for path in directory.glob("intermediate/*/*/plan.npz")] == [
        margin.plan.plan_id
    ]
    assert margin_digests(directory) == fresh(tmp_path / "fresh", config, monkeypatch)
    assert NOTHING in run_workflow(directory, check=True).stdout


@pytest.mark.parametrize("receipts", ["before it", "after it"])
def test_a_late_job_of_an_older_catalog_state_leaves_nothing_in_the_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receipts: str
):
    catalog = small_catalog(tmp_path / "sky", rows=3000, max_rows=500, compression="none")
    config = configuration(catalog, partitions_per_job=6)
    monkeypatch.chdir(tmp_path)
    (older,) = without_snakemake(config)
    file = partition_paths(catalog)[0]
    table = pq.read_table(file, partitioning=None)
    brighter = pc.subtract(table["mag"], 1.0).cast(table["mag"].type)
    table = table.set_column(table.schema.get_field_index("mag"), "mag", brighter)
    pq.write_table(table, file, compression="none")
    (newer,) = without_snakemake(config)
    assert newer.plan.input_fingerprint != older.plan.input_fingerprint
    written = {path: path.read_bytes() for path in newer.files.receipts_dir.iterdir()}
    for job in range(len(older.plan.reduce_names)):
        reduce_margins(older.plan, job, older.files, older.files.staging_dir)
    if receipts == "after it":
        for path, content in written.items():
            path.write_bytes(content)
    try:
        finish_margin(newer)
    except MarginCacheError as error:
        print(f"the margin is refused: {error}")
    run_workflow(tmp_path, config=config, check=True)
    assert margin_digests(tmp_path) == fresh(tmp_path / "fresh", config, monkeypatch)


# --- damaged files --------------------------------------------------------------------------


def test_a_damaged_file_of_the_margin_is_rebuilt(
    tmp_path: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch
):
    made_at_once(tmp_path / "run", configuration(catalog), monkeypatch)
    directory, margin = tmp_path / "run", tmp_path / "run/results" / NAME
    whole = tree_digest(margin)
    parquet = next(name for name in whole if "Npix=" in name)
    for name, damage in (
        (parquet, "deleted"),
        (parquet, "truncated"),
        ("partition_info.csv", "truncated"),
    ):
        content = (margin / name).read_bytes()
        (margin / name).unlink()
        if damage == "truncated":
            (margin / name).write_bytes(content[: len(content) // 2])
        jobs = jobs_of(run_workflow(directory, check=True).stdout)
        assert tree_digest(margin).keys() == whole.keys(), name
        assert margin_digests(directory) == {
            other: digest for other, digest in whole.items() if "provenance" not in other
        }, name
        assert bool(jobs["Mapping"]) == bool(jobs["Reducing"]) == (name == parquet), name
        # The only reduce job finishes a margin too.
        assert bool(jobs["Finishing"]) == (name != parquet), name
    assert NOTHING in run_workflow(directory, "-n", check=True).stdout
    assert remains(directory) == []


def test_a_finished_margin_does_not_need_its_intermediate_files(
    tmp_path: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch
):
    directory = tmp_path / "run"
    whole = fresh(directory, configuration(catalog), monkeypatch)
    shutil.rmtree(directory / "intermediate")
    assert NOTHING in run_workflow(directory, check=True).stdout
    for name in (next(name for name in whole if "Npix=" in name), "partition_info.csv"):
        shutil.rmtree(directory / "intermediate", ignore_errors=True)
        (directory / "results" / NAME / name).unlink()
        run_workflow(directory, check=True)
        assert margin_digests(directory) == whole
    assert remains(directory) == []


@pytest.mark.parametrize("kind", ["receipts/*.json", "receipts/*.parquet", "shards/*.arrow"])
def test_a_lost_intermediate_file_is_rebuilt(
    tmp_path: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    config = configuration(catalog, partitions_per_job=6)
    whole = fresh(tmp_path / "fresh", config, monkeypatch)
    directory = tmp_path / "run"
    write_config(directory, config)
    with monkeypatch.context() as context:
        context.chdir(directory)
        (margin,) = without_snakemake(config)
    lost = sorted((directory / margin.files.plan_dir).glob(kind))[1]
    lost.unlink()
    if kind.startswith("shards"):
        # A reduce job that is not done needs it.
        sorted((directory / margin.files.plan_dir).glob("receipts/*.json"))[1].unlink()
    run_workflow(directory, check=True)
    assert margin_digests(directory) == whole
    assert remains(directory) == []


# --- several margins ------------------------------------------------------------------------


def test_several_margins_of_one_run_are_each_like_one_made_alone(
    tmp_path: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also after a kill, and when a partition has changed."""
    other = small_catalog(tmp_path / "sky", rows=1000, max_rows=400, seed=2)
    shutil.copytree(catalog, changing := tmp_path / "changing")
    config = configuration(changing, partitions_per_job=6)
    margins: list[dict[str, Any]] = [
        {"output_artifact_name": "narrow", "margin_threshold": 10.0},
        {"output_artifact_name": "wide", "margin_threshold": 300.0},
        {"output_artifact_name": "cells", "fine_filtering": False, "margin_order": 9},
        {"output_artifact_name": "other", "input_catalog_path": str(other)},
    ]

    def each_alone(attempt: str) -> dict[str, Digests]:
        expected = {}
        for margin in margins:
            name = margin["output_artifact_name"]
            directory = tmp_path / attempt / name
            directory.parent.mkdir(exist_ok=True)
            made_at_once(directory, {**config, **margin}, monkeypatch)
            expected[name] = margin_digests(directory, name)
        return expected

    def made(expected: dict[str, Digests]) -> dict[str, Digests]:
        return {name: margin_digests(directory, name) for name in expected}

    def names(found: set[tuple[str, int]]) -> set[str]:
        return {name for name, _ in found}

    directory = tmp_path / "run"
    expected = each_alone("before")
    with run_of(directory, {**config, "margins": margins[:3]}) as run:
        run.wait_for(lambda: list(directory.glob("intermediate/narrow/*/receipts/*.json")))
        run.kill_group()
    resumed = jobs_of(resume(directory))
    assert names(resumed["Mapping"]) <= {"wide", "cells"}
    added = run_workflow(directory, config={**config, "margins": margins}, check=True).stdout
    assert all(names(found) == {"other"} for found in jobs_of(added).values())
    assert made(expected) == expected

    path = partition_paths(changing)[3]
    pq.write_table(pq.read_table(path, partitioning=None).slice(2), path)
    again = jobs_of(run_workflow(directory, check=True).stdout)
    assert names(again["Mapping"]) == {"wide", "cells"}
    assert names(again["Reducing"]) == {"narrow", "wide", "cells"}
    expected = each_alone("after")
    assert made(expected) == expected
    assert sorted(path.name for path in (directory / "results").iterdir()) == sorted(expected)
    assert remains(directory) == []
    assert NOTHING in run_workflow(directory, check=True).stdout
