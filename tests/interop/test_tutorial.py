"""The commands of docs/tutorial.md and docs/choosing_a_threshold.md print what the pages say."""

import re
import sys
from itertools import islice
from pathlib import Path

from support.pages import blocks, follow
from support.paths import ROOT
from support.peers import peer_python

PAGE = "tutorial.md"


def test_the_tutorial(tmp_path: Path) -> None:
    (tmp_path / "hats-env").symlink_to(peer_python("hats-import").parents[1])
    follow(islice(blocks(PAGE), 1, None), tmp_path)  # the first block makes the environments


def test_the_surveys_of_the_tutorial(tmp_path: Path) -> None:
    """Without the environment of hats-import."""
    (tmp_path / "hats-env").symlink_to(sys.prefix)
    follow(islice(blocks(PAGE), 1, 4), tmp_path)


def test_the_tutorial_installs_the_versions_that_it_is_tested_with() -> None:
    _, commands = next(blocks(PAGE))
    pins = (ROOT / "benchmarks/peers/hats-import.txt").read_text(encoding="utf-8").splitlines()
    installed = re.findall(r"\S+==\S+", commands)
    assert len(installed) == 2
    assert set(installed) <= set(pins)


def test_the_example_of_a_threshold(tmp_path: Path) -> None:
    for name, target in (("demo", ROOT / "demo"), ("Snakefile", ROOT / "Snakefile")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    follow(blocks("choosing_a_threshold.md"), tmp_path)


def test_the_example_of_geometry(tmp_path: Path) -> None:
    follow(blocks("healpix.md"), tmp_path)
