"""What a margin will take before any of its jobs has run, and whether the disks have room for it.

Estimates from the sizes of the partitions and some of their footers, as if rows were spread evenly
over each partition.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints
from margin_cache.margin.existing import done_jobs
from margin_cache.margin.model import Margin
from margin_cache.parquet.footers import column_sizes
from margin_cache.planning.model import Plan
from margin_cache.planning.resources import (
    RowGroupSize,
    largest_row_group,
    map_request,
    margin_shares,
    reduce_request,
)
from margin_cache.storage.files import size_text

_FOOTERS = 16  # partitions whose footers are read
_COLUMN_BYTES = 100  # of a column in a small file besides its values and footer, as dictionaries
_ROW_BYTES, _COLUMNS = 100.0, 20  # if footers cannot be read; the jobs report the problem
_DOUBT = 2  # how many times too large a forecast may be


@dataclass(frozen=True)
class FileSizes:
    """Averages of the files of a catalog.

    Bytes of a row in its file and without compression, bytes of a footer, number of columns.
    """

    row: float
    memory: float
    footer: float
    columns: int


@dataclass(frozen=True)
class Forecast:
    """The forecast of a margin, in bytes unless noted.

    ``rows`` and ``size`` are of the whole margin; jobs, and what is read, written to the ``output``
    and ``intermediate`` directories, and memory, are of the jobs that are not done. A margin that
    is made with the shards of another one has no map jobs.
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
    memory_mb: int
    has_map_jobs: bool = True


@dataclass(frozen=True)
class Place:
    """A file system: the keys and a directory that lead to it, bytes that are needed and free."""

    keys: tuple[str, ...]
    path: Path
    needed: int
    free: int


def forecast_margin(margin: Margin, made_with_it: Sequence[Margin] = ()) -> Forecast:
    """Forecast a margin; others may be made with its shards."""
    plan = margin.plan
    done = done_jobs(margin, made_with_it)
    expected = forecast(plan, file_sizes(plan), largest_row_group(plan), *done)
    return replace(expected, has_map_jobs=margin.shards_of is None)


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
            continue
    if not rows:
        return FileSizes(_ROW_BYTES, 2 * _ROW_BYTES, _COLUMNS * _ROW_BYTES, _COLUMNS)
    fixed = footers + files * columns * _COLUMN_BYTES
    return FileSizes(max(size - fixed, size / 10) / rows, memory / rows, footers / files, columns)


def forecast(
    plan: Plan,
    sizes: FileSizes,
    group: RowGroupSize,
    is_mapped: NDArray[np.bool_],
    is_reduced: NDArray[np.bool_],
) -> Forecast:
    """Return the forecast of a margin, of which some map and reduce jobs are done."""
    partitions, owners = plan.partitions, plan.destination_partitions
    fixed = sizes.footer + sizes.columns * _COLUMN_BYTES
    rows = np.maximum(partitions.sizes - fixed, 0.1 * partitions.sizes) / sizes.row
    margin_rows = rows * margin_shares(plan, partitions.orders)
    shards = _sums(margin_rows * sizes.memory, plan.map_bounds)
    # One file for each negative pixel, and for each partition that probably gets a margin row.
    expected_files = np.where(owners < 0, 1.0, 1 - np.exp(-margin_rows[owners]))
    per_pixel = np.where(owners < 0, 0.0, margin_rows[owners] * sizes.row) + expected_files * fixed
    written = _sums(per_pixel, plan.reduce_bounds)
    footers = _sums(expected_files * sizes.footer, plan.reduce_bounds)
    metadata = float(footers.sum()) if plan.parameters.create_metadata else 0.0
    requests = [map_request(plan, job, group) for job in np.flatnonzero(~is_mapped).tolist()]
    if not is_reduced.all():
        read = _sums(shards[plan.needs], plan.need_bounds)
        largest = int(np.argmax(np.where(is_reduced, -1.0, read)))
        requests.append(reduce_request(plan, largest, int(read[largest])))
    return Forecast(
        partitions=len(partitions),
        destinations=len(owners),
        negative_pixels=int((owners < 0).sum()),
        map_jobs=int((~is_mapped).sum()),
        reduce_jobs=int((~is_reduced).sum()),
        read=int(_sums(partitions.sizes, plan.map_bounds)[~is_mapped].sum()),
        rows=round(float(margin_rows.sum())),
        size=round(float(written.sum()) + metadata),
        output=round(float(written[~is_reduced].sum()) + metadata),
        intermediate=round(float(shards[~is_mapped].sum() + footers[~is_reduced].sum())),
        memory_mb=max((request.mem_mb for request in requests), default=0),
    )


def _sums(values: NDArray[np.number], bounds: Ints) -> NDArray[np.float64]:
    return np.diff(np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])[bounds])


def disk_space(margins: Iterable[tuple[Margin, Forecast]]) -> list[Place]:
    """Return the file systems that margins are made on, each once."""
    places: dict[int, Place] = {}
    for margin, expected in margins:
        # A margin at a URL is put together in tmp_dir.
        output_key = "tmp_dir" if margin.files.url else "output_path"
        for key, path, needed in (
            (output_key, margin.files.output_dir.parent, expected.output),
            ("tmp_dir", margin.intermediate_dir, expected.intermediate),
        ):
            path = path.absolute()
            path = next(around for around in (path, *path.parents) if around.exists())
            device = path.stat().st_dev
            place = places.get(device) or Place((), path, 0, shutil.disk_usage(path).free)
            keys = tuple(dict.fromkeys((*place.keys, key)))
            places[device] = replace(place, keys=keys, needed=place.needed + needed)
    return list(places.values())


def check_disk_space(places: Iterable[Place]) -> None:
    """Check that file systems have room for half of the forecast, which may be too high."""
    for place in places:
        if place.needed > _DOUBT * place.free:
            raise MarginCacheError(
                f"{place.keys[0]}: {place.path} has {size_text(place.free)} free, and "
                f"about {size_text(place.needed)} are needed there. Make room, or choose another "
                f"{' or '.join(place.keys)}."
            )
