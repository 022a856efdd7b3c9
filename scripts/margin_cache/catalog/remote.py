"""Lists the files of a remote catalog, once a run.

The store is listed, or, if that is impossible, asked for each file that partition_info.csv or
`_metadata` names.
"""

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog import spec
from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.hats import Collection
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.partitions import listed_partitions
from margin_cache.catalog.spec import pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.storage.catalog_files import MAGIC, use_remote_files
from margin_cache.storage.object_store import ObjectStore, PermissionDenied, connect
from margin_cache.storage.remote_files import RemoteFiles
from margin_cache.storage.urls import check_url, is_file_path, protocol_of

_OPTIONAL = (spec.PARTITION_INFO, spec.COMMON_METADATA, f"{spec.DATASET}/{spec.COMMON_METADATA}")

_PARTITION_PATH = re.compile(
    rf"(?:^|/)({spec.NORDER}=\d+/{spec.DIR}=\d+/{spec.NPIX}=\d+[^/]*(?:/[^/.][^/]*)?)\Z"
)


def connect_catalog(url: str, options: Mapping[str, Any]) -> RemoteFiles:
    """List the files of a remote catalog, which `files_at` returns from then on."""
    store = connect(url, options)
    if (table := _primary_table(store)) != store.url:
        if options and _server(table) != _server(store.url):
            raise MarginCacheError(
                f"input_catalog_path: the collection {store.url} is not where its primary table is "
                f"({table}), which must not get its input_storage_options. Give the URL of the "
                "table, with options of its own."
            )
        store = connect(table, options)
    objects = store.list()
    names = (*spec.DESCRIPTIONS, *_OPTIONAL)
    small = objects if objects is not None else store.states(names, optional=True)
    small = {name: small[name] for name in names if name in small}
    files = RemoteFiles(store.url, small, lambda: store)
    files.listing = {name: state for name, state in small.items() if _is_valid(files, name)}
    use_remote_files(files, url)
    info = read_catalog_info(store.url)
    if objects is None:
        named = sorted(_named_files(store, info))
        files.listing |= store.states(map(info.parquet_path, named))
    else:
        start = info.parquet_path(f"{spec.NORDER}=")
        files.listing |= {path: objects[path] for path in objects if path.startswith(start)}
    if not all(state.etag for state in files.listing.values()):
        print(
            f"warning: {store.url}: the server tells neither ETags nor times of change. A file "
            "that is replaced by one of the same size is not noticed: if the catalog may have "
            "changed, start the run with --forceall.",
            file=sys.stderr,
        )
    return files


def _server(url: str) -> str:
    """Return whom storage options are sent to: with S3 and Google, the URL is no part of that."""
    protocol, place = protocol_of(url), urlsplit(url).netloc.lower()
    if protocol in ("s3", "gs"):
        return protocol
    return f"{protocol}://{place.partition('@')[2] if protocol == 'abfs' else place}"


def _primary_table(store: ObjectStore) -> str:
    """Return the URL of the primary table in a collection; of another catalog, its own URL."""
    found = None
    with suppress(PermissionDenied):  # some stores answer so for files that do not exist
        found = store.read(spec.COLLECTION_PROPERTIES)
    if found is None:
        return store.url
    table = Collection(store.url, found[0]).primary
    check_url("input_catalog_path", table)
    if table.startswith(store.url) and not is_file_path(table.removeprefix(f"{store.url}/")):
        raise MarginCacheError(
            f"input_catalog_path: the primary table of the collection {store.url} is outside of "
            f"it ({table}). Give the URL of the table."
        )
    return table


def _is_valid(files: RemoteFiles, name: str) -> bool:
    """Return whether a file is what its name says, and no page that some servers send instead."""
    try:
        content = files.read(name)
    except FileNotFoundError:
        return False
    return not name.endswith(spec.METADATA) or content.startswith(MAGIC)


def _named_files(store: ObjectStore, info: CatalogInfo) -> set[str]:
    """Return the partition files that the catalog's own files name."""
    listed = listed_partitions(info)
    if listed is not None and info.npix_suffix != "/":
        return {pixel_path(pixel, info.npix_suffix) for pixel in listed}
    paths = _paths_in_metadata(store, info.parquet_path(spec.METADATA))
    matches = [_PARTITION_PATH.search(path) for path in paths]
    named = {match[1] for match in matches if match}
    if not named or None in matches:
        needed = f"{spec.PARTITION_INFO} or {spec.METADATA}" if listed is None else spec.METADATA
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: the server does not list files, and no readable "
            f"{needed} names them. Use a store that lists files, or a local copy."
        )
    return named


def _paths_in_metadata(store: ObjectStore, name: str) -> set[str]:
    """Return the paths of files in ``_metadata``; none if it is missing or damaged."""
    with suppress(PermissionDenied, pa.ArrowException):
        if found := store.read(name):
            # The default limits of the reader are for the files of single partitions.
            most = (1 << 31) - 1
            limits = {"thrift_string_size_limit": most, "thrift_container_size_limit": most}
            metadata = pq.ParquetFile(pa.BufferReader(found[0]), **limits).metadata
            groups = range(metadata.num_row_groups if metadata.num_columns else 0)
            return {metadata.row_group(number).column(0).file_path for number in groups}
    return set()
