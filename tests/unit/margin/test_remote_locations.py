"""What is behind URLs is looked at once, before all jobs."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.remote_locations import check_urls_apart, find_sources, image_of
from margin_cache.margin.start_run import start_margin
from margin_cache.margin.storage_options import OptionsSource
from support.object_servers import S3
from support.stages import release_locks


def settings(catalog: str, output: str, **options: Any) -> MarginSettings:
    return MarginSettings(input_catalog_path=catalog, output_path=output, **options)


def test_options_are_looked_for_where_there_are_urls(tmp_path: Path) -> None:
    anon = {"input_storage_options": {"anon": True}, "output_storage_options": {"anon": False}}
    found = find_sources(
        [
            settings("sky", "results", **anon),
            settings("s3://a/sky", "results", **anon),
            settings("sky", "s3://a/results", **anon),
        ],
        [],
    )
    source = OptionsSource("input_storage_options", options={"anon": True})
    output = OptionsSource("output_storage_options", options={"anon": False})
    assert found == [(None, None), (source, None), (None, output)]


def test_each_store_has_an_image_of_its_own() -> None:
    assert image_of(settings("sky", "results")) == ""
    first = image_of(settings("sky", "s3://a/results"))
    assert first == image_of(settings("other", "s3://a/results/"))
    elsewhere = settings(
        "sky", "s3://a/results", output_storage_options={"endpoint_url": "http://localhost"}
    )
    secret = settings("sky", "s3://a/results", output_storage_options={"key": "secret"})
    assert first == image_of(secret) != image_of(elsewhere)
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
def test_margins_are_apart_from_catalogs(output: str, name: str, is_refused: bool) -> None:
    margin: Any = SimpleNamespace(
        settings=settings("s3://a/sky", output), name=name, info=SimpleNamespace(url="s3://a/sky")
    )
    if not is_refused:
        check_urls_apart([margin])
        return
    with pytest.raises(MarginCacheError, match="is, or lies in or around, the input catalog"):
        check_urls_apart([margin])


@pytest.mark.parametrize(
    ("output", "name", "is_refused"),
    [("s3://b", "m", True), ("s3://b/m", "n", True), ("s3://b", "m2", False)],
)
def test_margins_are_apart_from_one_another(output: str, name: str, is_refused: bool) -> None:
    local = SimpleNamespace(url="")
    first, second = (
        SimpleNamespace(settings=settings("sky", place), name=each, info=local)
        for place, each in (("s3://b", "m"), (output, name))
    )
    margins: Any = [first, second]
    for order in (margins, margins[::-1]):
        if not is_refused:
            check_urls_apart(order)
            continue
        with pytest.raises(MarginCacheError, match="is, or lies in or around, another margin s3:"):
            check_urls_apart(order)


def test_the_image_of_a_margin_that_is_being_made_is_its_runs_own(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    margin = in_s3()
    start_margin(margin)
    kept = margin.files.output_dir / "placed_by_a_job"
    kept.touch()
    in_s3()
    assert kept.exists()
    release_locks()
    in_s3()
    assert not kept.exists()


def test_an_image_is_up_to_date_when_a_margin_is_prepared(
    in_s3: Callable[..., Margin], s3: S3
) -> None:
    margin = in_s3()
    name = margin.files.url.removeprefix("s3://sky/")
    s3.write(f"{name}/moon.jpg", b"x")
    assert not margin.files.output_dir.exists()
    assert (in_s3().files.output_dir / "moon.jpg").read_bytes() == b"x"
