"""What is behind URLs, as the main process sees it: catalogs, and places of margins."""

from collections.abc import Iterable
from pathlib import Path

from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import NamedMargin
from margin_cache.margin.paths import is_being_made
from margin_cache.margin.storage_options import OptionsSource, find_source
from margin_cache.storage.urls import image_dir, is_url, joined, local_path

Sources = tuple[OptionsSource | None, OptionsSource | None]
"""Where the options for the stores of a margin's catalog and of the margin stand."""


def find_sources(all_settings: Iterable[MarginSettings], files: list[Path]) -> list[Sources]:
    """Return where the options for the stores of margins stand.

    Args:
        all_settings: the settings of the margins.
        files: the configuration files, each of which overrides those before it.

    Raises:
        MarginCacheError: they are from the command line, and could be secrets.
    """
    return [
        (
            _source(settings, "input_catalog_path", "input_storage_options", number, files),
            _source(settings, "output_path", "output_storage_options", number, files),
        )
        for number, settings in enumerate(all_settings)
    ]


def _source(
    settings: MarginSettings, place: str, key: str, number: int, files: list[Path]
) -> OptionsSource | None:
    if not is_url(getattr(settings, place)):
        return None
    return find_source(key, getattr(settings, key), number, files)


def mirror_catalogs(all_settings: Iterable[MarginSettings]) -> None:
    """Bring the mirrors of remote catalogs up to date.

    Raises:
        MarginCacheError: there is no catalog, or it cannot be read.
    """
    remote = {
        local_path(each.input_catalog_path, each.input_storage_options)[0]: each
        for each in all_settings
        if is_url(each.input_catalog_path)
    }
    if not remote:
        return
    # Slow to import, and of no use for catalogs on disk.
    from margin_cache.catalog.remote import mirror_catalog

    for each in remote.values():
        mirror_catalog(each.input_catalog_path, each.input_storage_options)


def image_of(settings: MarginSettings) -> str:
    """Return the directory that shows what is where a margin is written to, if that is a URL."""
    if not is_url(settings.output_path):
        return ""
    return str(image_dir(settings.output_path, settings.output_storage_options))


def check_urls_apart(margins: Iterable[NamedMargin]) -> None:
    """Check that no margin is written into a catalog that is read or another margin, or around one.

    Raises:
        MarginCacheError: one is.
    """
    margins = list(margins)
    primaries = {margin.info.url for margin in margins} - {""}
    taken = [(primary, "the input catalog") for primary in sorted(primaries)]
    for margin in margins:
        if not is_url(margin.settings.output_path):
            continue
        url = joined(margin.settings.output_path, margin.name)
        for other, what in taken:
            if _is_around(url, other) or _is_around(other, url):
                raise MarginCacheError(
                    f"output_path: {url} is, or lies in or around, {what} {other}; choose another "
                    "place"
                )
        taken.append((url, "another margin"))


def _is_around(url: str, other: str) -> bool:
    """Tell whether what is at a URL is, or has in it, what is at another."""
    url, other = (each.replace("s3a://", "s3://", 1) for each in (url, other))
    return f"{other}/".startswith(f"{url}/")


def show_outputs(margins: Iterable[NamedMargin]) -> None:
    """Bring the directories up to date that show what is where margins are written to.

    Those of margins that a run of this directory is at work at are its own.

    Raises:
        MarginCacheError: a store cannot be asked.
    """
    for margin in margins:
        image = image_of(margin.settings)
        if image and not is_being_made(Path(image) / margin.name):
            # Slow to import, and of no use for margins on disk.
            from margin_cache.margin.remote_output import RemoteOutput

            url = joined(margin.settings.output_path, margin.name)
            options = margin.settings.output_storage_options
            with RemoteOutput(url, Path(image) / margin.name, options) as output:
                output.refresh()
                output.show_collection(margin.info)
