"""Remote catalogs: what they say of themselves and which partitions they have, as a mirror on disk.

Only the main process asks the store, once a run: by one listing where the store can list, else for
each object that partition_info.csv or ``_metadata`` names. All that is known of catalogs on disk
then finds the mirror as it would find the catalog.
"""

import atexit
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from margin_cache.catalog import consistency
from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.hats import primary_of, read_properties
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import listed_partitions
from margin_cache.catalog.spec import (
    CATALOG_INFO,
    COLLECTION_PROPERTIES,
    COMMON_METADATA,
    DATASET,
    METADATA,
    NORDER,
    PARTITION_INFO,
    PROPERTIES,
    HatsKey,
    pixel_path,
)
from margin_cache.errors import MarginCacheError
from margin_cache.storage.mirror import Mirror
from margin_cache.storage.missing_parts import use
from margin_cache.storage.object_state import ObjectState
from margin_cache.storage.stores import Store
from margin_cache.storage.urls import is_url, joined, mirror_dir

_DESCRIPTIONS = (*PROPERTIES, CATALOG_INFO, PARTITION_INFO)
_SMALL_BYTES = 64 * 10**6
"""No file that is fetched as a whole is larger, but `_metadata`, which has a limit of its own."""


def mirror_catalog(url: str, options: Mapping[str, Any]) -> Mirror:
    """Bring the mirror of a remote catalog up to date, and have it used.

    Args:
        url: the catalog, or a HATS collection, whose primary table is meant.
        options: fsspec's options for its store.

    Raises:
        MarginCacheError: there is no catalog, or it cannot be read.
    """
    mirror = Mirror(mirror_dir(url, options), url, Store(url, options))
    try:
        _update(mirror)
    except BaseException:
        mirror.store.close()
        raise
    atexit.register(mirror.store.close)
    use(mirror)
    return mirror


def _update(mirror: Mirror) -> None:
    table = _fetch_collection(mirror)
    listing = mirror.store.run(mirror.store.listing(joined(mirror.url, table)))
    if listing is not None:
        listing = {_below(table, path): state for path, state in listing.items()}
        if table:
            listing |= _states(mirror, [COLLECTION_PROPERTIES])
    names = [_below(table, name) for name in _DESCRIPTIONS]
    for directory in ("", DATASET):
        names += [_below(table, _below(directory, name)) for name in (COMMON_METADATA, METADATA)]
    small = _chosen(listing, names) if listing is not None else _states(mirror, names)
    _keep_small(mirror, small)
    if table:
        small |= _states(mirror, [COLLECTION_PROPERTIES])
    if not any(_below(table, name) in small for name in (*PROPERTIES, CATALOG_INFO)):
        mirror.remove_others(small)
        raise MarginCacheError(
            f"input_catalog_path: {joined(mirror.url, table)}: has neither a {CATALOG_INFO}, as "
            f"HiPSCat catalogs, nor a {PROPERTIES[0]}, as HATS ones; is that the URL of a catalog?"
        )
    info = read_catalog_info(str(mirror.root), mirror.url)
    partitions = (
        _listed(listing, info, mirror) if listing is not None else _named(info, mirror, small)
    )
    mirror.place(partitions)
    mirror.remove_others([*small, *partitions])


def _fetch_collection(mirror: Mirror) -> str:
    """Fetch the description of a collection; return where its primary table is in it, or nothing.

    Raises:
        MarginCacheError: it is elsewhere.
    """
    found = _states(mirror, [COLLECTION_PROPERTIES])
    if not found:
        return ""
    _keep_small(mirror, found)
    path = mirror.root / COLLECTION_PROPERTIES
    table = Path(primary_of(str(mirror.root)))
    given = read_properties(path)[HatsKey.PRIMARY]
    if is_url(given) or not table.is_relative_to(mirror.root) or ".." in table.parts:
        raise MarginCacheError(
            f"input_catalog_path: {mirror.url}: {COLLECTION_PROPERTIES} names the primary table "
            f"{given}, which is not in the collection; give the URL of the table itself"
        )
    return table.relative_to(mirror.root).as_posix()


def _below(directory: str, path: str) -> str:
    return f"{directory}/{path}" if directory not in ("", ".") else path


def _states(mirror: Mirror, paths: Iterable[str]) -> dict[str, ObjectState]:
    """Ask for the states of objects, one by one; those that are not there are left out."""
    paths = list(paths)
    found = mirror.store.run(mirror.store.states([joined(mirror.url, path) for path in paths]))
    return {path: state for path, state in zip(paths, found, strict=True) if state is not None}


def _chosen(listing: Mapping[str, ObjectState], names: Iterable[str]) -> dict[str, ObjectState]:
    return {name: listing[name] for name in names if name in listing}


def _keep_small(mirror: Mirror, states: Mapping[str, ObjectState]) -> None:
    """Fetch files that describe a catalog; a `_metadata` that nobody reads gets its size alone."""
    fetched: dict[str, ObjectState] = {}
    placed: dict[str, ObjectState] = {}
    for path, state in states.items():
        is_large = state.size > consistency.MOST_BYTES
        if not path.endswith(f"/{METADATA}") and path != METADATA:
            if state.size > _SMALL_BYTES:
                raise MarginCacheError(
                    f"{joined(mirror.url, path)}: has {state.size} bytes, too many for what it "
                    "should be"
                )
            is_large = False
        (placed if is_large else fetched)[path] = state
    mirror.keep_small(fetched)
    mirror.place(placed)


def _listed(
    listing: Mapping[str, ObjectState], info: CatalogInfo, mirror: Mirror
) -> dict[str, ObjectState]:
    """Return those objects of a listing that lie where partitions do."""
    start = _parquet_dir(info, mirror)
    return {
        path: state
        for path, state in listing.items()
        if path.startswith(_below(start, f"{NORDER}=")) and not path.endswith("/")
    }


def _parquet_dir(info: CatalogInfo, mirror: Mirror) -> str:
    return info.parquet_dir.relative_to(mirror.root).as_posix()


def _named(
    info: CatalogInfo, mirror: Mirror, small: Mapping[str, ObjectState]
) -> dict[str, ObjectState]:
    """Return the states of the partitions that a catalog names.

    Raises:
        MarginCacheError: it names none, or not their files.
    """
    listed = listed_partitions(info)
    if listed is not None and info.npix_suffix != "/":
        files = {pixel_path(pixel, info.npix_suffix) for pixel in listed}
    else:
        metadata = consistency.read_metadata(info.parquet_dir / METADATA)
        named = None if metadata is None else consistency.listed_files(metadata)
        if named is None:
            raise MarginCacheError(
                f"input_catalog_path: {info.location}: its store does not list files, and "
                + (
                    f"neither {PARTITION_INFO} nor {METADATA} names them"
                    if listed is None
                    else f"{METADATA}, which could name the files of partitions that are "
                    "directories, is missing, too large or without their names"
                )
                + "; give the URL of a store that lists files, or a copy on disk"
            )
        files = named
    start = _parquet_dir(info, mirror)
    return _states(mirror, sorted(_below(start, file) for file in files))
