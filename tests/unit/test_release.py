"""The version of a release is the same in all files that name it."""

import re

import yaml
from margin_cache import __version__
from support.paths import ROOT


def test_a_release_is_dated_in_the_changelog_and_in_the_citation() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, *_ = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    if __version__.endswith(".dev0"):
        assert newest == "Unreleased"
    else:
        assert newest == f"{__version__} - {citation['date-released']}"
        assert citation["version"] == __version__
