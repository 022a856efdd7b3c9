"""Jobs find options in configuration files; those of the command line must be no secrets."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.remote import (
    OptionsSource,
    find_source,
    find_sources,
    load_options,
    save_source,
)

KEY = "input_storage_options"
SECRET = "s3cret-41"
OPTIONS = {"key": "a", "secret": SECRET, "client_kwargs": {"region_name": "x"}}


def written(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


def saved(source: OptionsSource, path: Path) -> dict[str, Any]:
    """What a job finds of options."""
    save_source(source, path)
    assert SECRET not in path.read_text()
    return load_options(path)


def settings(catalog: str, output: str, **options: Any) -> MarginSettings:
    return MarginSettings(input_catalog_path=catalog, output_path=output, **options)


def source_of(options: dict[str, Any], number: int, files: list[Path]) -> OptionsSource:
    url = "s3://a/sky"
    margin = settings(url, "results", input_storage_options=options)
    found = find_source(KEY, url, margin, number, files)
    assert found is not None
    return found


def test_options_of_files_are_not_saved(tmp_path: Path) -> None:
    config = written(tmp_path / "a.yaml", {"input_storage_options": OPTIONS})
    source = source_of(OPTIONS, 0, [config])
    assert source == OptionsSource(KEY, (str(config),), 0)
    assert saved(source, tmp_path / "storage.json") == OPTIONS


def test_files_are_merged_as_snakemake_merges_them(tmp_path: Path) -> None:
    first = written(tmp_path / "a.yaml", {"input_storage_options": OPTIONS, "other": 1})
    second = {"input_storage_options": {"key": "b", "client_kwargs": {"verify": False}}}
    files = [first, written(tmp_path / "b.yaml", second)]
    merged = {**OPTIONS, "key": "b", "client_kwargs": {"region_name": "x", "verify": False}}
    assert saved(source_of(merged, 0, files), tmp_path / "storage.json") == merged


def test_margins_have_options_of_their_own(tmp_path: Path) -> None:
    config = written(
        tmp_path / "a.json",
        {
            "input_storage_options": {"secret": "of all"},
            "margins": [{"input_storage_options": OPTIONS}, {"margin_threshold": 5}],
        },
    )
    assert saved(source_of(OPTIONS, 0, [config]), tmp_path / "0.json") == OPTIONS
    common = {"secret": "of all"}
    assert saved(source_of(common, 1, [config]), tmp_path / "1.json") == common


@pytest.mark.parametrize(
    "options",
    [
        {"anon": True},
        {"endpoint_url": "http://localhost:9000", "client_kwargs": {"region_name": "eu"}},
        {},
    ],
)
def test_options_without_secrets_may_come_from_the_command_line(
    options: dict[str, Any], tmp_path: Path
) -> None:
    source = source_of(options, 0, [tmp_path / "none.yaml"])
    assert source == OptionsSource(KEY, options=options)
    assert saved(source, tmp_path / "storage.json") == options


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (OPTIONS, "key"),
        (
            {"anon": False, "client_kwargs": {"aws_secret_access_key": SECRET}},
            "client_kwargs.aws_secret",
        ),
        ({"headers": {"Authorization": SECRET}}, "headers"),
        ({"endpoint_url": f"http://user:{SECRET}@host"}, "endpoint_url"),
    ],
)
def test_possible_secrets_from_the_command_line_are_refused(
    options: dict[str, Any], name: str, tmp_path: Path
) -> None:
    with pytest.raises(MarginCacheError, match=f"input_storage_options: {name}") as error:
        source_of(options, 0, [written(tmp_path / "a.yaml", {"input_storage_options": {}})])
    assert SECRET not in str(error.value)


def test_options_in_a_pipe_cannot_be_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MarginCacheError, match="input_storage_options: is in a configuration file"):
        source_of(OPTIONS, 0, [tmp_path / "pipe"])
    anon = OptionsSource(KEY, options={"anon": True})
    assert source_of({"anon": True}, 0, [tmp_path / "pipe"]) == anon
    config = written(tmp_path / "a.yaml", {"input_storage_options": OPTIONS})
    assert source_of(OPTIONS, 0, [config, tmp_path / "pipe"]).files == (str(config),)


def test_removed_options_are_an_error(tmp_path: Path) -> None:
    config = written(tmp_path / "a.yaml", {"input_storage_options": OPTIONS})
    save_source(source_of(OPTIONS, 0, [config]), tmp_path / "storage.json")
    config.unlink()
    with pytest.raises(MarginCacheError, match=r"not in .*a.yaml any more"):
        load_options(tmp_path / "storage.json")


def test_missing_source_has_no_options(tmp_path: Path) -> None:
    assert load_options(tmp_path / "none.json") == {}


def test_sources_are_found_for_urls_only(tmp_path: Path) -> None:
    anon = {"input_storage_options": {"anon": True}, "output_storage_options": {"anon": False}}
    found = [
        find_sources(settings(catalog, output, **anon), 0, [])
        for catalog, output in (("sky", "results"), ("s3://a/sky", "results"), ("sky", "s3://a/b"))
    ]
    source = OptionsSource("input_storage_options", options={"anon": True})
    output = OptionsSource("output_storage_options", options={"anon": False})
    assert found == [(None, None), (source, None), (None, output)]


def test_options_of_margins_are_found_by_their_place_in_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    secret = {"input_storage_options": {"secret": "one"}}
    file.write_text(json.dumps({"margins": [{}, {}, secret]}))
    source, _ = find_sources(settings("s3://a/sky", "results", **secret), 2, [file])
    assert source == OptionsSource("input_storage_options", (str(file),), 2)
