"""How jobs get the options for the store of a remote catalog, without their being written anywhere.

Options can be secrets. So jobs read them where the user has written them: in the configuration
files, of which they are told the names. Options from the command line, where everybody on the
machine sees them, may only be such as are no secrets.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import read_json, write_json

_HARMLESS = {
    "anon",
    "endpoint_url",
    "requester_pays",
    "use_ssl",
    "region_name",
    "verify",
    "trust_env",
    "addressing_style",
    "project",
    "account_name",
    "profile",
}
"""Options that are no secrets."""

_OF_OPTIONS = {"client_kwargs", "config_kwargs", "s3"}
"""Options that hold others."""


@dataclass(frozen=True)
class OptionsSource:
    """Where the options for the store of a margin or of its catalog stand.

    Attributes:
        key: the key that they stand under.
        files: the configuration files, each of which overrides those before it.
        number: which margin it is: an entry of `margins`, if there is that.
        options: the options themselves, if they are from the command line.
    """

    key: str
    files: tuple[str, ...] = ()
    number: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def find_source(
    key: str, options: Mapping[str, Any], number: int, files: Iterable[Path]
) -> OptionsSource:
    """Return where options stand.

    Args:
        key: the key that they stand under.
        options: the options.
        number: which margin they are of: an entry of `margins`, if there is that.
        files: the configuration files, each of which overrides those before it.

    Raises:
        MarginCacheError: they are from the command line, and could be secrets.
    """
    if not options:
        return OptionsSource(key)
    names = tuple(str(file.absolute()) for file in files)
    if _options_in(key, names, number) == options:
        return OptionsSource(key, names, number)
    for name, value in _single_options(options):
        if name not in _HARMLESS or "@" in str(value):
            raise MarginCacheError(
                f"{key}: {name} is not from a configuration file alone; it could be a secret, and "
                f"everybody on the machine can read command lines; write all of {key} into a "
                "configuration file"
            )
    return OptionsSource(key, options=options)


def save_source(source: OptionsSource, path: Path) -> None:
    """Write where options stand, for jobs."""
    record = {
        "key": source.key,
        "files": list(source.files),
        "number": source.number,
        "options": dict(source.options),
    }
    if read_json(path) != record:
        write_json(path, record)


def load_options(path: Path) -> dict[str, Any]:
    """Return the options that a file tells of.

    Raises:
        MarginCacheError: the file is damaged, or the options do not stand there any more.
    """
    record = read_json(path)
    if record is None:
        return {}
    if not record["files"]:
        return dict(record["options"])
    options = _options_in(record["key"], record["files"], record["number"])
    if not options:
        raise MarginCacheError(
            f"{record['key']}: are not in {record['files'][-1]} any more, as this machine sees it; "
            "they are needed until the run is done, on a file system that all nodes see"
        )
    return options


def _options_in(key: str, files: Sequence[str], number: int) -> dict[str, Any]:
    """Return the options that stand in configuration files, joined as Snakemake joins them."""
    # Slow to import, and needed for few catalogs.
    import yaml

    config: dict[str, Any] = {}
    for file in files:
        try:
            values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        if isinstance(values, Mapping):
            _update(config, values)
    options = config.get(key, {})
    margins = config.get("margins")
    if isinstance(margins, list) and number < len(margins):
        entry = margins[number]
        options = entry.get(key, options) if isinstance(entry, Mapping) else options
    return dict(options) if isinstance(options, Mapping) else {}


def _update(config: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Override values of a configuration by those of another one, inside mappings too."""
    for key, value in other.items():
        if isinstance(value, Mapping):
            inner = config.get(key)
            config[key] = dict(inner) if isinstance(inner, Mapping) else {}
            _update(config[key], value)
        else:
            config[key] = value


def _single_options(options: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping) and name in _OF_OPTIONS:
            yield from _single_options(value)
        else:
            yield str(name), value
