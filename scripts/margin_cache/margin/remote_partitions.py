"""The partitions of a map job in a remote catalog."""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from margin_cache.errors import call
from margin_cache.margin.downloads import lock_of
from margin_cache.margin.paths import PlanFiles
from margin_cache.margin.storage_options import load_options
from margin_cache.parquet.remote_reader import RemoteReader
from margin_cache.planning.model import Plan
from margin_cache.storage.files import acquire_lock, unique_id
from margin_cache.storage.mirror import Mirror
from margin_cache.storage.missing_parts import use
from margin_cache.storage.remote_file import RemoteFile
from margin_cache.storage.stores import Store
from margin_cache.storage.urls import joined


def use_mirror(plan: Plan, files: PlanFiles) -> None:
    """Have what this process reads of a remote catalog's mirror fetched into it.

    Args:
        plan: the plan.
        files: the files of the plan.

    Raises:
        MarginCacheError: there is no driver for the store, or no options for it.
    """
    info = plan.parameters.catalog
    store = Store(info.url, load_options(files.storage_file))
    atexit.register(store.close)
    use(Mirror(Path(info.path), info.url, store))


@contextmanager
def remote_reader(plan: Plan, job: int, files: PlanFiles) -> Iterator[RemoteReader]:
    """Give what fetches the partitions of a map job, one after the other.

    Args:
        plan: the plan.
        job: number of the map job.
        files: the files of the plan, in whose directory another one is made meanwhile.

    Raises:
        MarginCacheError: there is no driver for the store, or no options for it.
    """
    info = plan.parameters.catalog
    options = load_options(files.storage_file)
    directory = files.downloads_dir / f"{job:05d}-{unique_id()}"
    directory.mkdir(parents=True)
    lock = acquire_lock(lock_of(directory), "")
    call(str(directory), info.url)
    columns = {info.ra_column, info.dec_column, info.index_column or info.ra_column}
    store = Store(info.url, options)

    def make(path: Path) -> RemoteFile:
        below = path.relative_to(info.path).as_posix()
        return RemoteFile(store, joined(info.url, below), path, directory / below)

    reader = RemoteReader(list(map(Path, plan.files_of(job))), columns, make)
    try:
        yield reader
    finally:
        reader.close()
        store.close()
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)
