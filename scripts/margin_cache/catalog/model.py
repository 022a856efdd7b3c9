"""A catalog's description, and its partitions with the state of their files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.spec import PARQUET_SUFFIX, PRIMARY_TYPES, pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel, as_pixels
from margin_cache.storage.catalog_files import CatalogFiles, files_at
from margin_cache.storage.urls import is_url

INDEX_TOLERANCE = 5.0
"""Largest accepted distance (arcsec) of a row's coordinates from the cell of its spatial index.

In a catalog without an index, from the pixel of the row's partition. Coordinates with 32 bits are
rounded by up to 0.06 arcsec, those with four decimals by 0.18, and the index may be of another
epoch: the fastest stars move 10 arcsec in a year."""


@dataclass(frozen=True)
class CatalogInfo:
    format: str
    path: str  # as configured, or a URL; of a collection, that of its primary table
    name: str
    epoch: str | None
    ra_column: str
    dec_column: str
    index_column: str | None  # None if the catalog has no spatial index
    index_order: int  # of the nested pixel in the spatial index
    index_shift: int  # number of bits to the right of that pixel
    dataset: str = ""  # directory of the Parquet files inside the catalog, unless it is itself
    npix_suffix: str = PARQUET_SUFFIX  # "/" if each partition is a directory of files

    @property
    def url(self) -> str:
        """Of a local catalog, it is ""."""
        return self.path if is_url(self.path) else ""

    @cached_property
    def files(self) -> CatalogFiles:
        return files_at(self.path)

    @property
    def absolute_location(self) -> str:
        return self.url or str(Path(self.path).absolute())

    def parquet_path(self, name: str) -> str:
        return f"{self.dataset}/{name}" if self.dataset else name

    def footer_path(self, path: str) -> str:
        """Return how ``_metadata`` names a file, in each format as its own tools do."""
        return path.removeprefix(f"{self.dataset}/") if self.dataset else f"/{path}"

    def partition_path(self, pixel: Pixel) -> str:
        return self.parquet_path(pixel_path(pixel, self.npix_suffix)).rstrip("/")

    def partition_name(self, pixel: Pixel) -> str:
        return self.files.name(self.partition_path(pixel))


def check_type(where: str, catalog_type: str) -> None:
    if catalog_type not in PRIMARY_TYPES:
        raise MarginCacheError(
            f"{where}: is a catalog of type {catalog_type}. Margins are made from catalogs of type "
            f"{' or '.join(PRIMARY_TYPES)}."
        )


@dataclass(frozen=True)
class MarginSummary:
    """The values in the description of a margin."""

    primary: CatalogInfo
    output_dir: Path
    rows: int
    threshold: float
    order: int  # highest of the margin's partitions; of the primary's if the margin has none
    sky_fraction: float
    size: int  # of the whole directory
    npix_suffix: str
    properties: Mapping[str, str]  # additional lines of hats.properties


class State(NamedTuple):
    """Size and times of a partition's files: it differs if a file was changed."""

    size: int
    time: int  # of the last change in ns; of an object, a digest of its ETag
    parts: int  # digest of names, sizes and times of the files of a directory; 0 for a single file


class Partition(NamedTuple):
    pixel: Pixel
    state: State


@dataclass(frozen=True)
class Partitions:
    """The partitions of a catalog in nested order: arrays, because there can be 70,000."""

    orders: NDArray[np.int64]
    pixels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]
    parts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.orders)

    def __getitem__(self, index: int) -> Partition:
        return Partition(
            Pixel(int(self.orders[index]), int(self.pixels[index])),
            State(int(self.sizes[index]), int(self.times[index]), int(self.parts[index])),
        )

    def __iter__(self) -> Iterator[Partition]:
        states = map(State, self.sizes.tolist(), self.times.tolist(), self.parts.tolist())
        return map(Partition, as_pixels(self.orders, self.pixels), states)

    def changed_from(self, other: "Partitions") -> NDArray[np.bool_]:
        """Return a mask of the partitions that differ from ``other``, which has the same pixels."""
        return (
            (self.sizes != other.sizes) | (self.times != other.times) | (self.parts != other.parts)
        )

    def state_bytes(self, start: int, stop: int) -> bytes:
        """Return the states of the partitions ``start:stop`` as bytes, for digests."""
        part = slice(start, stop)
        state = self.sizes[part].tobytes() + self.times[part].tobytes()
        # Digests of catalogs whose partitions are single files depend on sizes and times alone.
        return state + self.parts[part].tobytes() if self.parts[part].any() else state

    def take(self, chosen: "NDArray[np.integer] | slice") -> "Partitions":
        return Partitions(**{name: values[chosen] for name, values in vars(self).items()})
