"""How jobs reach catalogs and margins behind URLs: their storage options may be secrets.

The options are not written anywhere. Jobs read them from the configuration files, whose names are
saved for them. All users of a machine can read command lines, so options from there must not be
secrets.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.paths import PlanFiles
from margin_cache.storage.catalog_files import use_remote_files
from margin_cache.storage.files import read_json, write_json
from margin_cache.storage.urls import is_url

if TYPE_CHECKING:
    from margin_cache.storage.remote_files import RemoteFiles

_NO_SECRETS = (
    *("anon", "endpoint", "endpoint_url", "requester_pays", "use_ssl", "region_name", "verify"),
    *("trust_env", "addressing_style", "project", "account_name", "profile"),
)


@dataclass(frozen=True)
class OptionsSource:
    """Where storage options are: their key in the configuration files, or they themselves."""

    key: str
    files: tuple[str, ...] = ()  # each overrides those before it
    number: int = 0  # index in `margins`
    options: Mapping[str, Any] = field(default_factory=dict)


Sources = tuple[OptionsSource | None, OptionsSource | None]  # of catalog and output, if remote


def find_sources(settings: MarginSettings, number: int, files: Iterable[Path]) -> Sources:
    catalog, output = settings.input_catalog_path, settings.output_path
    return (
        find_source("input_storage_options", catalog, settings, number, files),
        find_source("output_storage_options", output, settings, number, files),
    )


def find_source(
    key: str, location: str, settings: MarginSettings, number: int, files: Iterable[Path]
) -> OptionsSource | None:
    """Find where the storage options of a location are; see `OptionsSource`."""
    if not is_url(location):
        return None
    options = getattr(settings, key)
    if not options:
        return OptionsSource(key)
    files = list(files)
    names = tuple(str(file.absolute()) for file in files if file.is_file())
    if _options_in(key, names, number) == options:
        return OptionsSource(key, names, number)
    # Not needed for local catalogs.
    from margin_cache.storage.obstore_store import flat_options

    for name, value in flat_options(options):
        if name.rpartition(".")[2] not in _NO_SECRETS or "@" in str(value):
            if len(names) < len(files):  # a pipe, as that of <(...)
                raise MarginCacheError(
                    f"{key}: is in a configuration file that can be read only once, but jobs read "
                    f"it again. Put {key} into a file that stays, and only you can read."
                )
            raise MarginCacheError(
                f"{key}: {name} could be a secret, and all users can read command lines. Put all "
                f"of {key} into a configuration file."
            )
    return OptionsSource(key, options=options)


def save_source(source: OptionsSource | None, path: Path) -> None:
    """Save the source for jobs; without one, remove what an earlier run has saved."""
    if source is None:
        path.unlink(missing_ok=True)
    else:
        write_json(path, asdict(source))


def load_options(path: Path) -> dict[str, Any]:
    """Load the options that a file of ``save_source`` points to; none if it is missing."""
    record = read_json(path)
    if record is None:
        return {}
    if not record["files"]:
        return dict(record["options"])
    options = _options_in(record["key"], record["files"], record["number"])
    if not options:
        raise MarginCacheError(
            f"{record['key']}: is not in {record['files'][-1]} any more. Put it back, in a "
            "file that all nodes see, and start the run again."
        )
    return options


def use_catalog(url: str, files: PlanFiles) -> "RemoteFiles":
    """Let this process read the files of a remote catalog, in the states of the plan."""
    # Slow to import, and not needed for local catalogs.
    from margin_cache.storage.object_store import connect
    from margin_cache.storage.remote_files import load_listing

    options = load_options(files.storage_file)
    catalog = load_listing(files.listing, lambda url: connect(url, options))
    use_remote_files(catalog, url)
    return catalog


def _options_in(key: str, files: Sequence[str], number: int) -> dict[str, Any]:
    """Read options from configuration files, merged as Snakemake merges them."""
    # Slow to import, and needed for few catalogs.
    import yaml

    try:
        contents = [yaml.safe_load(Path(file).read_text(encoding="utf-8")) for file in files]
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    config: dict[str, Any] = reduce(
        _merged, (values for values in contents if isinstance(values, Mapping)), {}
    )
    options, margins = config.get(key, {}), config.get("margins")
    if isinstance(margins, list) and number < len(margins) and isinstance(margins[number], Mapping):
        options = margins[number].get(key, options)
    return dict(options) if isinstance(options, Mapping) else {}


def _merged(config: Any, other: Any) -> Any:
    if not isinstance(other, Mapping):
        return other
    own = config if isinstance(config, Mapping) else {}
    return {**own, **{key: _merged(own.get(key), value) for key, value in other.items()}}
