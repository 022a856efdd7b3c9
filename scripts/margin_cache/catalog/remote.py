"""Refreshes the local listing of a remote catalog; see `storage.local_listing`.

Only the main process does this, once a run: by listing the store, or, if that is impossible, by one
request for each file that partition_info.csv or `_metadata` names.
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
from margin_cache.storage.local_listing import LocalListing, register_listing
from margin_cache.storage.old_object_store import ObjectState, connect
from margin_cache.storage.urls import is_url, join_url, listing_dir

_INFO_FILES = (*PROPERTIES, CATALOG_INFO, PARTITION_INFO)


def refresh_listing(url: str, options: Mapping[str, Any]) -> LocalListing:
    """Refresh and register the local listing of a remote catalog.

    Args:
        url: the catalog, or a HATS collection, of which the primary table is listed.
        options: fsspec's storage options.

    Raises:
        MarginCacheError: there is no catalog, or it cannot be read.
    """
    listing = LocalListing(listing_dir(url, options), url, connect(url, options))
    try:
        _refresh(listing)
    except BaseException:
        listing.store.close()
        raise
    atexit.register(listing.store.close)
    register_listing(listing)
    return listing


def _refresh(listing: LocalListing) -> None:
    table = _primary_table(listing)
    objects = listing.store.run(listing.store.list_objects(join_url(listing.url, table)))
    names = [_join(table, name) for name in _INFO_FILES]
    for directory in ("", DATASET):
        names += [_join(table, _join(directory, name)) for name in (COMMON_METADATA, METADATA)]
    if objects is not None:
        objects = {_join(table, path): state for path, state in objects.items()}
        small = {name: objects[name] for name in names if name in objects}
    else:
        small = _states(listing, names)
    _download_small(listing, small)
    if table:
        small |= _states(listing, [COLLECTION_PROPERTIES])
    if not any(_join(table, name) in small for name in (*PROPERTIES, CATALOG_INFO)):
        listing.remove_others(small)
        raise MarginCacheError(
            f"input_catalog_path: {join_url(listing.url, table)}: has no {CATALOG_INFO} (HiPSCat) "
            f"and no {PROPERTIES[0]} (HATS). Give the URL of a catalog."
        )
    info = read_catalog_info(str(listing.root), listing.url)
    start = info.parquet_dir.relative_to(listing.root).as_posix()
    if objects is not None:
        partitions = {
            path: state
            for path, state in objects.items()
            if path.startswith(_join(start, f"{NORDER}=")) and not path.endswith("/")
        }
    else:
        partitions = _states(listing, sorted(_join(start, file) for file in _named_files(info)))
    listing.add(partitions)
    listing.remove_others([*small, *partitions])


def _primary_table(listing: LocalListing) -> str:
    """Return the path of the primary table in a collection; "" if the URL is no collection.

    Raises:
        MarginCacheError: the table is outside the collection.
    """
    states = _states(listing, [COLLECTION_PROPERTIES])
    if not states:
        return ""
    _download_small(listing, states)
    table = Path(primary_of(str(listing.root)))
    name = read_properties(listing.root / COLLECTION_PROPERTIES)[HatsKey.PRIMARY]
    if is_url(name) or not table.is_relative_to(listing.root) or ".." in table.parts:
        raise MarginCacheError(
            f"input_catalog_path: {listing.url}: {COLLECTION_PROPERTIES} names the primary table "
            f"{name}, which is outside the collection. Give the URL of the table itself."
        )
    return table.relative_to(listing.root).as_posix()


def _join(directory: str, path: str) -> str:
    return f"{directory}/{path}" if directory not in ("", ".") else path


def _states(listing: LocalListing, paths: Iterable[str]) -> dict[str, ObjectState]:
    """Request the states of objects one by one; return those that exist."""
    paths = list(paths)
    urls = [join_url(listing.url, path) for path in paths]
    states = listing.store.run(listing.store.states(urls))
    return {path: state for path, state in zip(paths, states, strict=True) if state is not None}


def _download_small(listing: LocalListing, states: Mapping[str, ObjectState]) -> None:
    """Download the files that describe a catalog; a very large `_metadata` is only listed."""
    large = {path: state for path, state in states.items() if state.size > consistency.MOST_BYTES}
    listing.download({path: state for path, state in states.items() if path not in large})
    listing.add(large)


def _named_files(info: CatalogInfo) -> set[str]:
    """Return the partition files that the catalog's own files name.

    Raises:
        MarginCacheError: they name none.
    """
    listed = listed_partitions(info)
    if listed is not None and info.npix_suffix != "/":
        return {pixel_path(pixel, info.npix_suffix) for pixel in listed}
    metadata = consistency.read_metadata(info.parquet_dir / METADATA)
    files = None if metadata is None else consistency.listed_files(metadata)
    if files is None:
        needed = f"{PARTITION_INFO} or {METADATA}" if listed is None else METADATA
        raise MarginCacheError(
            f"input_catalog_path: {info.location}: the server does not list files, and no readable "
            f"{needed} names them. Use a store that lists files, or a local copy."
        )
    return set(files)
