"""Jobs find options in configuration files; from the command line come only harmless ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from margin_cache.errors import MarginCacheError
from margin_cache.margin.storage_options import (
    OptionsSource,
    find_source,
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


def test_options_of_files_are_not_written(tmp_path: Path) -> None:
    config = written(tmp_path / "a.yaml", {"input_storage_options": OPTIONS})
    source = find_source(KEY, OPTIONS, 0, [config])
    assert source == OptionsSource(KEY, (str(config),), 0)
    assert saved(source, tmp_path / "storage.json") == OPTIONS


def test_files_are_joined_as_snakemake_joins_them(tmp_path: Path) -> None:
    first = written(tmp_path / "a.yaml", {"input_storage_options": OPTIONS, "other": 1})
    second = {"input_storage_options": {"key": "b", "client_kwargs": {"verify": False}}}
    files = [first, written(tmp_path / "b.yaml", second)]
    joined = {**OPTIONS, "key": "b", "client_kwargs": {"region_name": "x", "verify": False}}
    assert saved(find_source(KEY, joined, 0, files), tmp_path / "storage.json") == joined


def test_margins_have_options_of_their_own(tmp_path: Path) -> None:
    config = written(
        tmp_path / "a.json",
        {
            "input_storage_options": {"secret": "of all"},
            "margins": [{"input_storage_options": OPTIONS}, {"margin_threshold": 5}],
        },
    )
    assert saved(find_source(KEY, OPTIONS, 0, [config]), tmp_path / "0.json") == OPTIONS
    common = {"secret": "of all"}
    assert saved(find_source(KEY, common, 1, [config]), tmp_path / "1.json") == common


@pytest.mark.parametrize(
    "options",
    [
        {"anon": True},
        {"endpoint_url": "http://localhost:9000", "client_kwargs": {"region_name": "eu"}},
        {},
    ],
)
def test_harmless_options_may_come_from_the_command_line(
    options: dict[str, Any], tmp_path: Path
) -> None:
    source = find_source(KEY, options, 0, [tmp_path / "none.yaml"])
    assert source == OptionsSource(KEY, options=options)
    assert saved(source, tmp_path / "storage.json") == options


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (OPTIONS, "key"),
        ({"anon": False, "client_kwargs": {"aws_secret_access_key": SECRET}}, "aws_secret"),
        ({"headers": {"Authorization": SECRET}}, "headers"),
        ({"endpoint_url": f"http://user:{SECRET}@host"}, "endpoint_url"),
    ],
)
def test_others_from_the_command_line_are_refused(
    options: dict[str, Any], name: str, tmp_path: Path
) -> None:
    with pytest.raises(MarginCacheError, match=f"input_storage_options: {name}") as error:
        find_source(KEY, options, 0, [written(tmp_path / "a.yaml", {"input_storage_options": {}})])
    assert SECRET not in str(error.value)


def test_options_that_are_gone_are_missed(tmp_path: Path) -> None:
    config = written(tmp_path / "a.yaml", {"input_storage_options": OPTIONS})
    save_source(find_source(KEY, OPTIONS, 0, [config]), tmp_path / "storage.json")
    config.unlink()
    with pytest.raises(MarginCacheError, match=r"are not in .*a.yaml any more"):
        load_options(tmp_path / "storage.json")


def test_without_a_file_there_are_no_options(tmp_path: Path) -> None:
    assert load_options(tmp_path / "none.json") == {}


def test_a_file_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "storage.json"
    save_source(OptionsSource(KEY, options={"anon": True}), path)
    made = path.stat().st_ino
    save_source(OptionsSource(KEY, options={"anon": True}), path)
    assert path.stat().st_ino == made
    assert json.loads(path.read_text())["options"] == {"anon": True}
