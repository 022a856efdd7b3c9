"""One interface to the two formats: finding, reading and writing descriptions of catalogs."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from margin_cache.catalog import hats, hipscat, spec
from margin_cache.catalog.model import CatalogInfo, MarginSummary
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints, Pixel
from margin_cache.storage.catalog_files import files_at
from margin_cache.storage.urls import canonical_url, check_url, is_url


class CatalogFormat(Protocol):
    """The interface of the modules hats and hipscat, which describe these functions."""

    def is_margin(self, descriptions: Mapping[str, bytes]) -> bool: ...

    def stated_rows(self, info: CatalogInfo) -> tuple[str, object]: ...

    def margin_schema(self, primary: pa.Schema, source: str) -> pa.Schema: ...

    def pixel_columns(
        self, pixels: tuple[Ints, Ints], sources: tuple[Ints, Ints]
    ) -> dict[str, Ints]: ...

    def write_description(
        self, directory: Path, summary: MarginSummary
    ) -> tuple[dict[str, Any], list[str]]: ...

    def partition_list(self, pixels: Iterable[Pixel]) -> str: ...

    def format_version(self) -> str: ...


_FORMATS: dict[str, CatalogFormat] = {"hipscat": hipscat, "hats": hats}


def format_of(info: CatalogInfo) -> CatalogFormat:
    return _FORMATS[info.format]


def read_catalog_info(location: str) -> CatalogInfo:
    """Read the description of a catalog of either format; of a collection, of its primary."""
    where = f"input_catalog_path: {location}"
    try:
        files = files_at(location if is_url(location) else _local_table(location))
        if any(files.exists(name) for name in spec.PROPERTIES):
            return hats.read_info(files)
        if files.exists(spec.CATALOG_INFO):
            return hipscat.read_info(files)
        names = (*spec.DESCRIPTIONS, spec.COLLECTION_PROPERTIES)
        entries = [] if is_url(location) else sorted(Path(location).iterdir())
        catalogs = [entry.name for entry in entries if any((entry / n).exists() for n in names)]
    except OSError as error:
        raise MarginCacheError(
            f"{where}: cannot read {error.filename or location} ({error.strerror or error})"
        ) from None
    if catalogs:
        raise MarginCacheError(
            f"{where}: is not a catalog, but contains catalogs. Give one: {', '.join(catalogs)}"
        )
    raise MarginCacheError(
        f"{where}: is neither a HiPSCat catalog, which has a {spec.CATALOG_INFO}, nor a HATS "
        f"catalog, which has a {spec.PROPERTIES[0]}"
    )


def _local_table(location: str) -> str:
    """Return the directory of a catalog; of a collection, that of its primary table."""
    where, path = f"input_catalog_path: {location}", Path(location)
    if not path.is_dir():
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # is_dir() of Python 3.14 does not raise where permission is missing
        raise MarginCacheError(f"{where}: there is no such directory. Give that of a catalog.")
    if not (path / spec.COLLECTION_PROPERTIES).exists():
        return location
    table = hats.primary_of(location)
    if not Path(table).is_dir():
        raise MarginCacheError(
            f"{where}: its {spec.COLLECTION_PROPERTIES} names the primary table {table}, which is "
            "missing"
        )
    return table


def check_hats_keys(info: CatalogInfo, keys: list[str]) -> None:
    """Reject configuration keys that are for HATS margins if the catalog is of another format."""
    if keys and info.format != "hats":
        raise MarginCacheError(
            f"{keys[0]}: is for margins of HATS catalogs, but {info.path} is a HiPSCat catalog. "
            "Remove the key."
        )


Options = Callable[[str], Mapping[str, Any]]  # returns the storage options of a URL


def find_margin(key: str, location: str, catalog: str, options: Options = lambda url: {}) -> str:
    """Return the directory, or the URL, of the margin that a user means under a key.

    ``location`` is that of a margin, or of a collection with a default margin; or the name of a
    margin of the collection ``catalog``.
    """
    if not is_url(location) and not Path(location).is_dir():
        collection = _collection(catalog, _descriptions_at("input_catalog_path", catalog, options))
        location = (collection and collection.margin(location)) or location
    descriptions = _descriptions_at(key, location, options)
    if (collection := _collection(location, descriptions)) is not None:
        if (default := collection.margin()) is None:
            raise MarginCacheError(
                f"{key}: {location} is a collection without a default margin. Give one of its "
                "margins."
            )
        location, descriptions = default, _descriptions_at(key, default, options)
    if not is_url(location) and not Path(location).is_dir():
        raise MarginCacheError(f"{key}: {location} is not a directory. Give the margin to check.")
    if not is_margin(descriptions):
        raise MarginCacheError(
            f"{key}: {location} has no metadata of a margin. Give the margin to check."
        )
    return canonical_url(location) if is_url(location) else location


def is_margin(descriptions: Mapping[str, bytes]) -> bool:
    """Return whether a catalog is a margin, by the contents of the files that describe it."""
    return any(catalog_format.is_margin(descriptions) for catalog_format in _FORMATS.values())


def descriptions_in(directory: Path) -> dict[str, bytes]:
    found = {}
    for name in (*spec.DESCRIPTIONS, spec.COLLECTION_PROPERTIES):
        with suppress(OSError):
            found[name] = (directory / name).read_bytes()
    return found


def _descriptions_at(key: str, location: str, options: Options) -> dict[str, bytes]:
    if not is_url(location):
        return descriptions_in(Path(location))
    # Slow to import, and not needed for local catalogs.
    from margin_cache.storage.object_store import connect

    check_url(key, location)
    store = connect(location, options(location))
    names = store.states((*spec.DESCRIPTIONS, spec.COLLECTION_PROPERTIES), optional=True)
    return {name: found[0] for name in names if (found := store.read(name))}


def _collection(location: str, descriptions: Mapping[str, bytes]) -> hats.Collection | None:
    properties = descriptions.get(spec.COLLECTION_PROPERTIES)
    return None if properties is None else hats.Collection(location, properties)
