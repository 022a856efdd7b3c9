"""Checks the words of a command for mistakes that Snakemake accepts without a message."""

import os
import re
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from margin_cache.errors import MarginCacheError

_ONLY_ONCE = {
    "--config": "key=value",
    "--configfile": "files",
    "--default-resources": "name=value",
    "--set-resources": "rule:name=value",
    "--set-threads": "rule=number",
}
"""Options that Snakemake reads from their last occurrence only, and their values."""

_OTHER_NAMES = {
    "-C": "--config",
    "--configfiles": "--configfile",
    "--default-res": "--default-resources",
}
_PROFILE = "--workflow-profile"
_READ_ONLY = (
    *("--lint", "--list", "-l", "--lt", "--lr", "--lc", "--lp", "--summary", "-S", "-D"),
    *("--detailed-summary", "--dag", "--rulegraph", "--filegraph", "--d3dag", "--report"),
)
"""Beginnings of options that only print; they work in directories without write permission."""

_NEEDED_BYTES = 1 << 16  # for Snakemake's log and records


def check_command(words: Sequence[str], start: Path, workflow_dir: Path) -> None:
    """Check for repeated options and for missing workflow profiles."""
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    names = [_OTHER_NAMES.get(option, option) for option in options]
    for name, values in _ONLY_ONCE.items():
        if names.count(name) > 1:
            raise MarginCacheError(
                f"{name}: is given {names.count(name)} times, but Snakemake reads the last one "
                f"only. Give it once, followed by all {values}."
            )
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        profile = value if equals else following
        if option != _PROFILE or profile == "none":
            continue
        parents = (start, start / "profiles", workflow_dir / "profiles")
        if not any((parent / profile).exists() for parent in parents):
            profiles = sorted(path.name for path in workflow_dir.glob("profiles/*/"))
            raise MarginCacheError(
                f"{_PROFILE}: there is no profile {profile}, and Snakemake would run without one. "
                f"Profiles of the workflow: {', '.join(profiles)}."
            )


def check_working_directory(words: Sequence[str], directory: Path) -> None:
    """Check that Snakemake can write its own files, unless the command only prints."""
    if any(word.startswith(_READ_ONLY) for word in words):
        return
    own = directory / ".snakemake"
    try:
        own.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=own) as file:
            file.write(bytes(_NEEDED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MarginCacheError(
            f"{own}: Snakemake cannot write its files ({error.strerror or error}). Free disk "
            "space, or use another working directory with --directory."
        ) from None


def check_catalog_given(config: Mapping[str, Any], directory: Path, workflow_dir: Path) -> None:
    """Check that a catalog is configured: users seldom want the default, the demo sky."""
    margins = config.get("margins")
    all_name_one = isinstance(margins, list) and all(
        isinstance(margin, Mapping) and "input_catalog_path" in margin for margin in margins
    )
    if "input_catalog_path" not in config and not (margins and all_name_one):
        raise MarginCacheError(
            "input_catalog_path: is missing after --config, in --configfile and in "
            f"{directory / 'config/config.yaml'}. Give the directory of a catalog, or of the demo "
            f"sky: {workflow_dir / 'demo/hipparcos'}."
        )


def describe_keys(config: str) -> str:
    """Return each key of config/config.yaml with its default and the first sentence about it."""
    keys = re.findall(r"((?:^# .*\n)+)^(\w+: .+)$", config, re.MULTILINE)
    lines = []
    for comment, key in keys:
        text = " ".join(comment.replace("\n# ", " ").removeprefix("# ").split())
        sentence = re.split(r"(?<=\.) (?=[A-Z`])", text)[0]
        lines += [key, textwrap.fill(sentence, 96, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines)
