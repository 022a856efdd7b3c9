"""Mistakes in a command that Snakemake accepts without a message are errors."""

from pathlib import Path
from typing import Any

import pytest
from margin_cache.config.validation import (
    check_catalog_given,
    check_command,
    check_working_directory,
)
from margin_cache.errors import MarginCacheError
from support.full_disks import files_end_at
from support.paths import ROOT


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--config", "a=1", "--cores", "2", "--config", "b=2"], "--config"),
        (["-C", "a=1", "--config=b=2"], "--config"),
        (["--configfile", "a.yaml", "--configfiles", "b.yaml"], "--configfile"),
        (["--default-resources", "a=1", "--default-res", "b=2"], "--default-resources"),
        (["--set-resources", "a:b=1", "--set-resources=a:c=1"], "--set-resources"),
    ],
)
def test_an_option_given_twice_is_refused(words: list[str], option: str, tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match=rf"^{option}: is given 2 times"):
        check_command(words, tmp_path, ROOT)


def test_a_profile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for words in (["--workflow-profile", "slrum"], ["--workflow-profile=slrum", "-n"]):
        with pytest.raises(MarginCacheError, match=r"no profile slrum, .*: default, slurm\.$"):
            check_command(words, tmp_path, ROOT)


def test_profiles_are_searched_where_snakemake_searches_them(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "profiles/mine").mkdir(parents=True)
    for name in ("slurm", "own", "none", str(ROOT / "profiles/slurm"), "own/profiles/mine"):
        check_command(["--workflow-profile", name, "--config", "a=1"], tmp_path, ROOT)
    check_command(["--workflow-profile", "mine"], own, ROOT)


@pytest.mark.parametrize(
    "config",
    [
        {"margin_threshold": 5},
        {"margins": [{"margin_threshold": 5}]},
        {"margins": [{"input_catalog_path": "a"}, {"margin_threshold": 5}]},
        {"margins": []},
        {},
    ],
)
def test_nobody_gets_the_demo_sky_unasked(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match=r"^input_catalog_path: is missing .*demo/hip"):
        check_catalog_given(config, tmp_path, ROOT)


def test_a_catalog_may_be_given_for_all_margins_or_for_each(tmp_path: Path) -> None:
    check_catalog_given({"input_catalog_path": "a"}, tmp_path, ROOT)
    check_catalog_given({"margins": [{"input_catalog_path": "a"}]}, tmp_path, ROOT)


@pytest.mark.parametrize("words", [["--cores", "2"], ["-n"], ["--cores", "2", "--touch"]])
def test_a_directory_that_has_no_room_for_snakemakes_own_files_is_named(
    words: list[str], tmp_path: Path
) -> None:
    with (
        pytest.raises(
            MarginCacheError,
            match=rf"^{tmp_path}/\.snakemake: .* \(File too large\)",
        ),
        files_end_at(1000),
    ):
        check_working_directory(words, tmp_path)
    check_working_directory(words, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / ".snakemake"]
    assert list((tmp_path / ".snakemake").iterdir()) == []


@pytest.mark.parametrize("word", ["--lint", "--list", "--summary", "-S", "--report", "--dag"])
def test_commands_that_only_print_write_nothing(word: str, tmp_path: Path) -> None:
    check_working_directory(["--cores", "1", word], tmp_path)
    assert list(tmp_path.iterdir()) == []
