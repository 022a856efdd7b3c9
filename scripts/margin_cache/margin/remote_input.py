"""Catalogs behind URLs: their local listings, and what jobs download of them."""

import atexit
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from margin_cache.catalog.remote import refresh_listing
from margin_cache.config.model import MarginSettings
from margin_cache.errors import show_as
from margin_cache.margin.paths import PlanFiles
from margin_cache.margin.storage_options import load_options
from margin_cache.parquet.remote_reader import RemoteFile, RemoteReader
from margin_cache.planning.model import Plan
from margin_cache.storage.files import acquire_lock, is_locked, unique_id
from margin_cache.storage.local_listing import LocalListing, register_listing
from margin_cache.storage.old_object_store import connect
from margin_cache.storage.urls import is_url, join_url, local_path


def refresh_catalog_listings(all_settings: Iterable[MarginSettings]) -> None:
    """Refresh the local listings of the remote catalogs, each once.

    Raises:
        MarginCacheError: a catalog does not exist, or cannot be read.
    """
    remote = {
        local_path(settings.input_catalog_path, settings.input_storage_options)[0]: settings
        for settings in all_settings
        if is_url(settings.input_catalog_path)
    }
    for settings in remote.values():
        refresh_listing(settings.input_catalog_path, settings.input_storage_options)


def use_catalog_listing(plan: Plan, files: PlanFiles) -> None:
    """Let this process download what it reads of a remote catalog into its local listing."""
    info = plan.parameters.catalog
    store = connect(info.url, load_options(files.storage_file))
    atexit.register(store.close)
    register_listing(LocalListing(Path(info.path), info.url, store))


@contextmanager
def remote_reader(plan: Plan, job: int, files: PlanFiles) -> Iterator[RemoteReader]:
    """Yield a reader of the partitions of a map job, whose downloads are deleted at the end."""
    info = plan.parameters.catalog
    options = load_options(files.storage_file)
    directory = files.downloads_dir / f"{job:05d}-{unique_id()}"
    directory.mkdir(parents=True)
    lock = acquire_lock(_download_lock(directory), "")
    show_as(str(directory), info.url)
    columns = {info.ra_column, info.dec_column, info.index_column or info.ra_column}
    store = connect(info.url, options)

    def make(path: Path) -> RemoteFile:
        name = path.relative_to(info.path).as_posix()
        return RemoteFile(store, join_url(info.url, name), path, directory / name)

    reader = RemoteReader(list(map(Path, plan.files_of(job))), columns, make)
    try:
        yield reader
    finally:
        reader.close()
        store.close()
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def delete_downloads(files: PlanFiles) -> None:
    """Delete the downloads that killed jobs have left."""
    if not files.downloads_dir.is_dir():
        return
    for directory in files.downloads_dir.iterdir():
        if not is_locked(_download_lock(directory)):
            shutil.rmtree(directory, ignore_errors=True)


def _download_lock(directory: Path) -> Path:
    return directory / ".lock"
