"""Mistakes in a command that Snakemake takes without a word."""

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
