"""How jobs read catalogs behind URLs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from margin_cache.margin.paths import PlanFiles
from margin_cache.margin.storage_options import load_options
from margin_cache.parquet.remote_reader import RemoteReader
from margin_cache.planning.model import Plan
from margin_cache.storage.catalog_files import use_remote_files
from margin_cache.storage.files import unique_id
from margin_cache.storage.object_store import connect
from margin_cache.storage.remote_files import RemoteFiles, load_listing


def use_catalog(plan: Plan, files: PlanFiles) -> RemoteFiles:
    """Let this process read the files of a remote catalog, in the states of the plan."""
    options = load_options(files.storage_file)
    catalog = load_listing(files.listing, lambda url: connect(url, options))
    use_remote_files(catalog, plan.parameters.catalog.url)
    return catalog


@contextmanager
def remote_reader(plan: Plan, job: int, files: PlanFiles) -> Iterator[RemoteReader]:
    """Yield a reader of the partitions of a map job, whose downloads are deleted at the end."""
    info = plan.parameters.catalog
    catalog = use_catalog(plan, files)
    directory = files.downloads_dir / f"{job:05d}-{unique_id()}"
    directory.mkdir(parents=True)
    columns = {info.ra_column, info.dec_column, info.index_column or info.ra_column}
    reader = RemoteReader(catalog, plan.files_of(job), columns, directory)
    try:
        yield reader
    finally:
        reader.close()
        shutil.rmtree(directory, ignore_errors=True)
