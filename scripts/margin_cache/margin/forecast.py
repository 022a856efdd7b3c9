"""What a margin will take before any of its jobs has run, and whether the disks have room for it.

Estimates from the sizes of the partitions and some of their footers, as if rows were spread evenly
over each partition.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing import done_jobs
from margin_cache.margin.model import Margin
from margin_cache.parquet.footers import column_sizes
from margin_cache.planning.jobs import margin_shares
from margin_cache.planning.model import Plan
from margin_cache.storage.files import size_text

_FOOTERS = 16  # partitions whose footers are read
_COLUMN_BYTES = 100  # of a column in a small file besides its values and footer, as dictionaries
_DOUBT = 2  # how many times too large a forecast may be


@dataclass(frozen=True)
class FileSizes:
    """Average bytes of a catalog's files.

    Attributes:
        row: a row in its file; ``memory``: without compression.
        footer: of a file; ``fixed``: with all that does not depend on the number of rows.
    """

    row: float
    memory: float
    footer: float
    fixed: float


@dataclass(frozen=True)
class Forecast:
    """The forecast of a margin: ``rows`` and ``size`` of all of it, jobs that are not done.

    ``read`` is what these jobs read, ``output`` and ``intermediate`` what they write there, in
    bytes.
    """

    partitions: int
    destinations: int
    negative_pixels: int
    map_jobs: int
    reduce_jobs: int
    read: int
    rows: int
    size: int
    output: int
    intermediate: int


@dataclass
class DiskSpace:
    """A file system: the keys and a directory that lead to it, bytes that are needed and free."""

    keys: list[str]
    path: Path
    needed: int
    free: int


def forecast_margin(margin: Margin, made_with_it: Iterable[Margin] = ()) -> Forecast:
    """Forecast a margin; others may be made with its shards."""
    return forecast(margin.plan, file_sizes(margin.plan), *done_jobs(margin, made_with_it))


def file_sizes(plan: Plan) -> FileSizes:
    """Return averages of a catalog's files, from the footers of some."""
    partitions, info = plan.partitions, plan.parameters.catalog
    rows = size = footers = files = columns = 0
    memory = 0.0
    for number in np.unique(np.linspace(0, len(partitions) - 1, _FOOTERS).astype(int)).tolist():
        try:
            for file in partition_files(info, partitions[number].pixel):
                opened = info.files.open_parquet(file)
                footer = opened.metadata
                of_row = column_sizes(opened, opened.schema_arrow.names).values()
                memory += footer.num_rows * sum(column.row for column in of_row)
                rows += footer.num_rows
                size += info.files.state(file).size
                footers += footer.serialized_size
                columns = max(columns, footer.num_columns)
                files += 1
        except (MarginCacheError, OSError, ValueError):
            continue  # the job that reads it reports the problem
    files, rows = max(files, 1), max(rows, 1)
    fixed = footers / files + columns * _COLUMN_BYTES
    row = max(size - files * fixed, size / 10, 1.0) / rows
    return FileSizes(row, memory / rows, footers / files, fixed)


def forecast(
    plan: Plan, sizes: FileSizes, is_mapped: NDArray[np.bool_], is_reduced: NDArray[np.bool_]
) -> Forecast:
    """Return the forecast of a margin, of which some map and reduce jobs are done."""
    partitions, owners = plan.partitions, plan.destination_partitions
    rows = np.maximum(partitions.sizes - sizes.fixed, 0.1 * partitions.sizes) / sizes.row
    margin_rows = rows * margin_shares(plan, partitions.orders)
    # One file for each negative pixel, and for each partition that probably gets a margin row.
    files = np.where(owners < 0, 1.0, 1 - np.exp(-margin_rows[owners]))
    written = np.where(owners < 0, 0.0, margin_rows[owners] * sizes.row) + files * sizes.fixed
    footers = files * sizes.footer
    metadata = float(footers.sum()) if plan.parameters.create_metadata else 0.0
    # Of these partitions and destinations, jobs are not done.
    to_map = np.repeat(~is_mapped, np.diff(plan.map_bounds))
    to_reduce = np.repeat(~is_reduced, np.diff(plan.reduce_bounds))
    shards = margin_rows[to_map].sum() * sizes.memory
    return Forecast(
        partitions=len(partitions),
        destinations=len(owners),
        negative_pixels=int((owners < 0).sum()),
        map_jobs=int((~is_mapped).sum()),
        reduce_jobs=int((~is_reduced).sum()),
        read=int(partitions.sizes[to_map].sum()),
        rows=round(float(margin_rows.sum())),
        size=round(float(written.sum()) + metadata),
        output=round(float(written[to_reduce].sum()) + metadata),
        intermediate=round(float(shards + footers[to_reduce].sum())),
    )


def disk_space(margins: Iterable[tuple[Margin, Forecast]]) -> list[DiskSpace]:
    """Return the file systems that margins are made on, each once."""
    disks: dict[int, DiskSpace] = {}
    for margin, expected in margins:
        # A margin at a URL is put together in tmp_dir.
        output_key = "tmp_dir" if margin.files.url else "output_path"
        for key, path, needed in (
            (output_key, margin.files.output_dir.parent, expected.output),
            ("tmp_dir", margin.intermediate_dir, expected.intermediate),
        ):
            path = path.absolute()
            path = next(around for around in (path, *path.parents) if around.exists())
            free = shutil.disk_usage(path).free
            disk = disks.setdefault(path.stat().st_dev, DiskSpace([], path, 0, free))
            if key not in disk.keys:
                disk.keys.append(key)
            disk.needed += needed
    return list(disks.values())


def check_disk_space(disks: Iterable[DiskSpace]) -> None:
    """Check that file systems have room for half of the forecast, which may be too high."""
    for disk in disks:
        if disk.needed > _DOUBT * disk.free:
            raise MarginCacheError(
                f"{disk.keys[0]}: {disk.path} has {size_text(disk.free)} free, and "
                f"about {size_text(disk.needed)} are needed there. Make room, or choose another "
                f"{' or '.join(disk.keys)}."
            )
