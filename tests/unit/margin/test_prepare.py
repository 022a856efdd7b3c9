"""Preparing refuses what is unfit, and keeps the jobs of a plan when partitions change."""

import json
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.model import CatalogInfo
from margin_cache.config.model import MarginSettings
from margin_cache.config.validation import settings_of_margins
from margin_cache.errors import MarginCacheError
from margin_cache.margin import prepare as preparing
from margin_cache.margin.model import Margin, load_margins, save_margin
from margin_cache.margin.prepare import margin_name, prepare_margins, share_map_jobs
from margin_cache.planning.model import load_plan
from support.changed_catalogs import rewrite_partitions, say_other_codec
from support.margins import configuration
from support.plans import PARAMETERS, make_plan, partitions_of
from support.small_skies import pixels_at, sky_of, small_catalog
from support.stages import run_map_jobs, run_reduce_jobs
from support.write_hats import write_collection, write_hats


def test_parameters_are_those_of_the_settings_and_of_the_primary(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    parameters = prepare(margin_threshold=60, margin_order=5).plan.parameters
    assert (parameters.threshold, parameters.margin_order) == (60.0, 5)
    assert parameters.fine_filtering
    first = pq.read_metadata(min(catalog.rglob("Npix=*.parquet"))).row_group(0).column(0)
    assert parameters.primary_options.compression == first.compression.lower()


def test_margins_of_a_catalog_are_made_with_the_shards_of_the_widest_one(
    prepare: Callable[..., Margin], catalog: Path, tmp_path: Path
) -> None:
    shutil.copytree(catalog, tmp_path / "other")
    margins = {
        name: prepare(output_artifact_name=name, delete_intermediate_parquet_files=False, **config)
        for name, config in {
            "5": {"margin_threshold": 5.0},
            "30": {"margin_threshold": 30.0},
            "coarse9": {"fine_filtering": False, "margin_order": 9},
            "coarse11": {"fine_filtering": False, "margin_order": 11},
            "300": {"margin_threshold": 300.0},
            "other": {"margin_threshold": 5.0, "input_catalog_path": tmp_path / "other"},
            "part": {"margin_threshold": 5.0, "debug_filter_pixel_list": [[0, 4]]},
        }.items()
    }

    def sources(incomplete: Collection[str], are_made_anew: bool = False) -> dict[str, str]:
        """Names of the margins with whose shards others are made, by the names of these."""
        by_plan = {str(margin.files.plan_dir): margin for margin in margins.values()}
        plans = [str(margins[name].files.plan_dir) for name in incomplete]
        shared = share_map_jobs(by_plan, plans, are_made_anew)
        assert list(shared) == list(by_plan)
        return {
            margin.name: by_plan[str(margin.shards_of)].name
            for margin in shared.values()
            if margin.shards_of
        }

    assert sources(margins) == {"5": "300", "30": "300", "coarse11": "coarse9"}
    assert sources(["5", "30"]) == {"5": "30"}
    assert sources(["5", "30", "coarse11"]) == {"5": "coarse11", "30": "coarse11"}
    assert sources(["coarse9", "5"]) == {"5": "coarse9"}
    # A margin with the shards that it needs goes on with them, and those of a complete one serve.
    run_map_jobs(margins["30"])
    assert sources(margins) == {"5": "30", "coarse11": "coarse9"}
    assert sources(["5"]) == {"5": "30"}
    assert sources(margins, are_made_anew=True) == sources(set(margins) - {"30"}) | {"30": "300"}
    margins["30"].files.shard(margins["30"].plan.map_names[0]).unlink()
    assert sources(["5"]) == {}


@pytest.mark.parametrize(("given", "order", "threshold"), [(4, 4, 8245.17), (-1, 11, 60.0)])
def test_a_coarse_margin_has_the_threshold_of_its_order(
    prepare: Callable[..., Margin], given: int, order: int, threshold: float
) -> None:
    margin = prepare(margin_threshold=60, margin_order=given, fine_filtering=False)
    assert margin.plan.parameters.margin_order == order
    assert margin.plan.parameters.threshold == pytest.approx(threshold, abs=0.005)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"margin_order": 1}, "1 is not above 1, .* Use a higher margin_order"),
        ({"margin_order": 0}, "0 is not above 1, .* Use a higher margin_order"),
        (
            {"margin_threshold": 36_000},
            r"1 .for 36000 arcsec. is not above 1, .* a smaller threshold",
        ),
    ],
)
def test_cells_of_a_coarse_margin_must_be_smaller_than_partitions(
    prepare: Callable[..., Margin], changes: dict[str, int], said: str
) -> None:
    config = {"margin_threshold": 60} | changes
    assert prepare(**config).plan.partitions.orders.max() == 1
    with pytest.raises(MarginCacheError, match=f"^margin_order: {said}"):
        prepare(fine_filtering=False, **config)


@pytest.mark.parametrize(
    ("given", "threshold", "name"),
    [
        ("", 10.0, "sky_10arcs"),
        ("", 0.5, "sky_0.5arcs"),
        ("", 1e-3, "sky_0.001arcs"),
        ("wide", 10.0, "wide"),
    ],
)
def test_a_margin_is_named_after_the_catalog_and_the_threshold(
    prepare: Callable[..., Margin], given: str, threshold: float, name: str
) -> None:
    margin = prepare()
    settings = replace(margin.settings, output_artifact_name=given, margin_threshold=threshold)
    assert margin_name(margin.plan.parameters.catalog, settings) == name


def test_a_coarse_margin_is_named_after_the_threshold_of_its_order(
    prepare: Callable[..., Margin],
) -> None:
    margin = prepare()
    coarse = replace(margin.settings, output_artifact_name="", fine_filtering=False)
    for order, name in ((4, "sky_8245.17arcs"), (-1, "sky_60arcs"), (29, "sky_0.000245725arcs")):
        settings = replace(coarse, margin_order=order, margin_threshold=60.0)
        assert margin_name(margin.plan.parameters.catalog, settings) == name


def test_a_catalog_name_unfit_for_a_directory_is_refused(
    prepare: Callable[..., Margin],
) -> None:
    margin = prepare()
    info = replace(read_catalog_info(margin.settings.input_catalog_path), name="a/b")
    with pytest.raises(MarginCacheError, match=r"output_artifact_name: .*'a/b'"):
        margin_name(info, replace(margin.settings, output_artifact_name=""))


@pytest.mark.parametrize("margin_order", [-1, 1, 5])
def test_an_index_too_coarse_for_a_coarse_margin_is_refused(
    margin_order: int,
    catalog: Path,
    prepare: Callable[..., Margin],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No order and no threshold would help."""
    info = replace(read_catalog_info(str(catalog)), index_order=1)
    monkeypatch.setattr(preparing, "read_catalog_info", lambda location: info)
    said = "fine_filtering: false needs a spatial index of order 2 or more, .* has order 1\\."
    with pytest.raises(MarginCacheError, match=f"^{said}"):
        prepare(fine_filtering=False, margin_order=margin_order)


def test_the_plan_has_the_schema_of_the_catalog(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    expected = pq.read_schema(catalog / "_common_metadata")
    assert prepare().plan.schema.equals(expected, check_metadata=True)


LZ4_OF_HADOOP = 5
"""Its number in footers."""


def test_the_lz4_of_hadoop_becomes_what_has_replaced_it(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    paths = rewrite_partitions(catalog, lambda rows, number: rows, compression="lz4")
    for path in paths:
        say_other_codec(path, LZ4_OF_HADOOP)
    margin = prepare(margin_threshold=300.0)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    made = next(margin.files.staging_dir.rglob("Npix=*"))
    assert pq.read_metadata(made).row_group(0).column(0).compression == "LZ4"


@pytest.mark.parametrize("groups", [1, 3])
def test_row_groups_are_as_large_as_those_of_the_primary(
    tmp_path: Path, prepare: Callable[..., Margin], groups: int
) -> None:
    rows = 1 << 20 if groups == 1 else 10
    options = {} if groups == 1 else {"row_group_size": 10}
    catalog = small_catalog(tmp_path / "groups", rows=600, max_rows=120)
    for path in catalog.rglob("Npix=*.parquet"):
        pq.write_table(pq.read_table(path, partitioning=None), path, **options)
    assert (
        prepare(input_catalog_path=catalog).plan.parameters.primary_options.row_group_rows == rows
    )


def test_a_saved_plan_keeps_its_jobs_when_a_partition_changes(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    older = prepare()
    path = min(catalog.rglob("Npix=*.parquet"))
    os.utime(path, ns=(1, 1))
    newer = prepare()
    assert newer.plan.plan_id == older.plan.plan_id
    assert newer.plan.input_fingerprint != older.plan.input_fingerprint
    assert (newer.plan.map_bounds == older.plan.map_bounds).all()
    assert load_plan(newer.files.plan).input_fingerprint == newer.plan.input_fingerprint


def test_a_catalog_that_contradicts_itself_is_refused_when_it_is_planned(
    catalog: Path, prepare: Callable[..., Margin], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all its partitions, though a margin of some is wanted, and not again for the same plan."""
    info = catalog / "catalog_info.json"
    content = info.read_text()
    rows = json.loads(content)["total_rows"]
    order, pixel = map(int, (catalog / "partition_info.csv").read_text().split()[1].split(",")[:2])
    (catalog / "partition_info.csv").unlink()
    wanted = {"debug_filter_pixel_list": [[order, pixel]]}
    info.write_text(content.replace(f"{rows}", f"{rows + 1}"))
    for _ in range(2):
        with pytest.raises(MarginCacheError, match=f"total_rows .* is {rows + 1}, but .* {rows} r"):
            prepare(**wanted)
    info.write_text(content)
    prepare(**wanted)
    monkeypatch.delattr("margin_cache.margin.prepare.check_consistency")
    prepare(**wanted)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"no archive",
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: bytes(len(content)),
        lambda content: content[:1000] + bytes(500) + content[1500:],
    ],
)
def test_a_plan_file_that_is_damaged_is_made_again(
    prepare: Callable[..., Margin], damage: Callable[[bytes], bytes]
) -> None:
    margin = prepare()
    margin.files.plan.write_bytes(damage(margin.files.plan.read_bytes()))
    with pytest.raises(
        MarginCacheError, match=r"plan\.npz: is damaged, or belongs to another plan"
    ):
        load_plan(margin.files.plan)
    assert prepare().plan.plan_id == margin.plan.plan_id
    assert load_plan(margin.files.plan).plan_id == margin.plan.plan_id


def test_the_first_margin_of_a_collection_may_become_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_collection(tmp_path, "collection", "sky")
    sky = sky_of(pixels_at(((10.0, 20.0, 0), (200.0, -20.0, 0))), 40, 3000.0, 3)
    write_hats(tmp_path / "collection", "sky", sky.table, sky.partitions)
    outputs = ("out", "collection", "collection", "out")
    config = {
        "input_catalog_path": "collection",
        "margins": [
            {"margin_threshold": threshold, "output_path": output}
            for threshold, output in zip((5.0, 10.0, 1.0, 2.0), outputs, strict=True)
        ],
    }
    margins = prepare_margins(settings_of_margins(config))
    assert [margin.may_be_default for margin in margins] == [True, True, False, True]
    for margin in margins:
        save_margin(margin)
    loaded = load_margins(settings_of_margins(config))
    assert [margin.may_be_default for margin in loaded] == [True, True, False, True]


def test_another_version_of_the_library_makes_another_plan(
    prepare: Callable[..., Margin], monkeypatch: pytest.MonkeyPatch
) -> None:
    older = prepare()
    monkeypatch.setattr("margin_cache.margin.prepare.library_version", lambda: "9.9.dev0+1")
    newer = prepare()
    assert newer.plan.plan_id != older.plan.plan_id
    assert newer.plan.content_id == older.plan.content_id


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output_path": "{sky}", "output_artifact_name": "x"}, "output_path: .* the input"),
        ({"output_path": "{up}", "output_artifact_name": "sky"}, "output_path: .* the input"),
        ({"tmp_dir": "{sky}"}, "tmp_dir: .* overlaps with the input catalog"),
        ({"tmp_dir": "{up}/results"}, "tmp_dir: .* overlaps with another margin"),
    ],
)
def test_overlapping_directories_are_refused(
    catalog: Path, prepare: Callable[..., Margin], changes: dict[str, str], said: str
) -> None:
    words = {"sky": catalog, "up": catalog.parent}
    changes = {key: value.format(**words) for key, value in changes.items()}
    with pytest.raises(MarginCacheError, match=said):
        prepare(**changes)


def test_a_link_in_place_of_the_output_directory_is_refused(
    tmp_path: Path, prepare: Callable[..., Margin]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/margin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MarginCacheError, match="output_path: results/margin is a link"):
        prepare()


def test_two_margins_of_one_name_are_refused(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configuration(str(catalog), margins=[{"margin_threshold": 5}, {"overwrite": True}])
    with pytest.raises(MarginCacheError, match="/margin overlaps with another margin of this run"):
        prepare_margins(settings_of_margins(config))


def test_margins_of_one_name_need_a_tmp_dir_each_only_if_their_plans_are_the_same(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def prepared(one: dict[str, Any], two: dict[str, Any]) -> list[Margin]:
        places = [{"output_path": "one"} | one, {"output_path": str(tmp_path / "two")} | two]
        settings = settings_of_margins({**configuration(str(catalog)), "margins": places})
        margins = prepare_margins(settings)
        for margin in margins:
            save_margin(margin)
        loaded = load_margins(settings)
        assert [margin.files for margin in loaded] == [margin.files for margin in margins]
        assert [margin.settings for margin in loaded] == settings
        return margins

    with pytest.raises(MarginCacheError, match=r"the tmp_dir of margin, .* another tmp_dir"):
        prepared({}, {})
    other_plan = prepared({}, {"margin_threshold": 5.0})
    assert {margin.intermediate_dir for margin in other_plan} == {Path("intermediate/margin")}
    other_tmp_dir = prepared({"tmp_dir": "tmp-one"}, {"tmp_dir": "tmp-two"})
    directories = [margin.intermediate_dir for margin in other_tmp_dir]
    assert directories == [Path("tmp-one/margin"), Path("tmp-two/margin")]


@pytest.mark.parametrize(
    ("output_path", "name", "owner"),
    [
        ("s3://a", "sky", "the input catalog"),
        ("s3a://a/sky", "m", "the input catalog"),
        ("S3://a//sky/dataset/", "m", "the input catalog"),
        ("s3://b", "m", "another margin of this run"),
        ("s3a://b/m", "n", "another margin of this run"),
        ("s3://a", "sky_10arcs", ""),
        ("s3://b", "m2", ""),
        ("gs://b", "m", ""),
        ("results", "sky", ""),
    ],
)
def test_urls_of_margins_do_not_overlap_with_others(output_path: str, name: str, owner: str):
    check_overlaps("s3://a/sky", "s3://b", output_path, name, owner)


AT = "@account.dfs.core.windows.net"


@pytest.mark.parametrize(
    ("output_path", "name", "owner"),
    [
        ("az://a", "sky", "the input catalog"),
        (f"abfss://a{AT}/sky", "m", "the input catalog"),
        ("abfs://a@account.blob.core.windows.net/sky", "m", "the input catalog"),
        (f"abfss://a{AT.replace('account', 'other')}/sky", "m", ""),
        (f"abfss://b{AT}", "m", "another margin of this run"),
        ("abfs://b/m", "n", "another margin of this run"),
        ("az://b/m@", "n", ""),
    ],
)
def test_names_of_one_place_in_azure_overlap(output_path: str, name: str, owner: str):
    check_overlaps(f"abfss://a{AT}/sky", "az://b", output_path, name, owner)


def check_overlaps(url: str, first_path: str, output_path: str, name: str, owner: str) -> None:
    info = CatalogInfo("hats", url, "sky", None, "ra", "dec", None, 29, 0)
    plan = make_plan(replace(PARAMETERS, catalog=info), partitions_of(4))
    first, second = (
        Margin(
            MarginSettings(output_path=path, tmp_dir=f"tmp-{path == first_path}"), margin_name, plan
        )
        for path, margin_name in ((first_path, "m"), (output_path, name))
    )
    for both in ([first, second], [second, first]):
        if not owner:
            preparing.check_directories(both)
            continue
        with pytest.raises(MarginCacheError, match=f"overlaps with {owner}, (s3|abfs):"):
            preparing.check_directories(both)
