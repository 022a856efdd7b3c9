"""Mistakes in a command that Snakemake takes without a word, or answers by a traceback."""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from margin_cache.errors import MarginCacheError

_ONCE = {
    "--config": "key=value",
    "--configfile": "files",
    "--default-resources": "name=value",
    "--set-resources": "rule:name=value",
    "--set-threads": "rule=number",
}
"""Options of which Snakemake takes the last alone, and what they are followed by."""

_ALSO = {"-C": "--config", "--configfiles": "--configfile", "--default-res": "--default-resources"}
_PROFILE = "--workflow-profile"
_ONLY_TELL = (
    *("--lint", "--list", "-l", "--lt", "--lr", "--lc", "--lp", "--summary", "-S", "-D"),
    *("--detailed-summary", "--dag", "--rulegraph", "--filegraph", "--d3dag", "--report"),
)
"""How options begin that only tell something, which can be had of a directory of others too."""

_LEAST_BYTES = 1 << 16  # that Snakemake needs for its log and for what it remembers of jobs


def check_command(words: Sequence[str], start: Path, workflows: Iterable[Path]) -> None:
    """Check a command for what Snakemake would leave out silently.

    Args:
        words: the command as it was given.
        start: the directory in which it was given.
        workflows: directories with profiles of the workflow.

    Raises:
        MarginCacheError: an option is given twice, or there is no such profile.
    """
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    names = [_ALSO.get(option, option) for option in options]
    for name, values in _ONCE.items():
        if names.count(name) > 1:
            raise MarginCacheError(
                f"{name}: is given {names.count(name)} times, and snakemake takes the last alone; "
                f"give it once, with all {values} after it"
            )
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == _PROFILE:
            name = value if equals else words[number + 1]
            _check_profile(name, start, workflows)


def check_working_directory(words: Sequence[str], directory: Path) -> None:
    """Check that Snakemake can write into its own directory in the working directory.

    Args:
        words: the command as it was given.
        directory: the working directory.

    Raises:
        MarginCacheError: it cannot, and the command is one that needs it.
    """
    if any(word.startswith(_ONLY_TELL) for word in words):
        return
    own = directory / ".snakemake"
    try:
        own.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=own) as file:
            file.write(bytes(_LEAST_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MarginCacheError(
            f"{own}: cannot be written to ({error.strerror}), as Snakemake has to; make room, or "
            "give another working directory with --directory"
        ) from None


def _check_profile(name: str, start: Path, workflows: Iterable[Path]) -> None:
    directories = list(workflows)
    places = [start / name, start / "profiles" / name]
    places += [directory / "profiles" / name for directory in directories]
    if name == "none" or any(place.exists() for place in places):
        return
    known = sorted(
        {path.name for directory in directories for path in (directory / "profiles").glob("*/")}
    )
    raise MarginCacheError(
        f"{_PROFILE}: there is no profile {name}, and snakemake would do without; the workflow has "
        f"{', '.join(known)}"
    )


def check_catalog_given(config: Mapping[str, Any], directory: Path, workflow: Path) -> None:
    """Check that a configuration names a catalog, so that nobody gets the demo sky unasked.

    Args:
        config: the configuration.
        directory: the working directory.
        workflow: the directory of the workflow, where the demo sky is.

    Raises:
        MarginCacheError: it names none.
    """
    margins = config.get("margins")
    named = isinstance(margins, list) and all(
        isinstance(margin, Mapping) and "input_catalog_path" in margin for margin in margins
    )
    if "input_catalog_path" not in config and not (margins and named):
        raise MarginCacheError(
            f"input_catalog_path: is not given, neither after --config nor by --configfile nor in "
            f"{directory / 'config/config.yaml'}; give the directory of a catalog, or of the demo "
            f"sky, {workflow / 'demo/hipparcos'}"
        )
