"""A catalog as it describes itself, and its partitions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.spec import PARQUET_SUFFIX, pixel_path
from margin_cache.errors import show_as
from margin_cache.healpix.nested import Pixel, as_pixels

INDEX_TOLERANCE = 5.0
"""Most arcsec between the position that a row's spatial index stands for and its coordinates.

Without an index, between the pixel of a row's partition and its coordinates.

Coordinates that are stored as floats of 32 bits are rounded by up to 0.06 arcsec, those with four
decimals by 0.18, and the index may have been made for another epoch; the fastest stars move 10
arcsec in a year."""


@dataclass(frozen=True)
class CatalogInfo:
    """What a catalog says about itself.

    Attributes:
        format: name of the format, hipscat or hats.
        path: directory of the catalog, as the user gave it; of a collection, its primary table's.
        name: name of the catalog.
        epoch: epoch of the coordinates, None if not given.
        ra_column: name of the column with right ascensions, in degrees.
        dec_column: name of the column with declinations, in degrees.
        index_column: name of the spatial index; None if there is none.
        index_order: order of the nested pixel in the spatial index.
        index_shift: number of bits to the right of the nested pixel in the spatial index.
        dataset: directory of the Parquet files inside ``path``, with a slash, or "".
        npix_suffix: what the names of partitions end with; "/" if each is a directory of files.
        url: the URL of the catalog, whose path is then that of its mirror; empty if it is on disk.
    """

    format: str
    path: str
    name: str
    epoch: str | None
    ra_column: str
    dec_column: str
    index_column: str | None
    index_order: int
    index_shift: int
    dataset: str = ""
    npix_suffix: str = PARQUET_SUFFIX
    url: str = ""

    def name_by_url(self) -> None:
        """Have messages of this process name a remote catalog by its URL, not by its mirror."""
        if self.url:
            show_as(self.path, self.url)
            show_as(str(Path(self.path).absolute()), self.url)

    @property
    def location(self) -> str:
        """The URL of the catalog, or its path as the user gave it."""
        return self.url or self.path

    @property
    def absolute_location(self) -> str:
        """The URL of the catalog, or its absolute path."""
        return self.url or str(Path(self.path).absolute())

    @property
    def parquet_dir(self) -> Path:
        """Directory of the Parquet files."""
        return Path(self.path, self.dataset)

    def partition_path(self, pixel: Pixel) -> Path:
        """Return the file of a partition, or its directory of files."""
        return Path(self.path, self.dataset, pixel_path(pixel, self.npix_suffix))


@dataclass(frozen=True)
class MarginSummary:
    """What a margin says about itself.

    Attributes:
        primary: the primary catalog.
        output_dir: directory of the margin, whose name is the margin's.
        rows: number of rows.
        threshold: margin threshold in arcsec.
        order: highest order of the margin's partitions; the primary's, if it has none.
        sky_fraction: share of the sky that the margin's partitions cover.
        size: size of the margin's directory in bytes.
        npix_suffix: what the names of its files end with; "/" if each lies in a directory.
        properties: further lines of its properties.
    """

    primary: CatalogInfo
    output_dir: Path
    rows: int
    threshold: float
    order: int
    sky_fraction: float
    size: int
    npix_suffix: str
    properties: Mapping[str, str]


class State(NamedTuple):
    """State of the files of a partition, by which a change is noticed.

    Attributes:
        size: bytes of all files.
        time: time of the last change in ns.
        parts: digest of names, sizes and times of the files if the partition is a directory, else
            0.
    """

    size: int
    time: int
    parts: int


class Partition(NamedTuple):
    """A partition of a catalog; ``partitions.partition_files`` returns its files."""

    pixel: Pixel
    state: State


@dataclass(frozen=True)
class Partitions:
    """The partitions of a catalog in nested order, as arrays, since there may be 70,000 of them.

    Attributes:
        orders, pixels: orders and nested numbers of the pixels, int64 of shape (n,).
        sizes, times, parts: the fields of ``State``, int64 of shape (n,).
    """

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
        """Tell which partitions have another state than among others of the same pixels."""
        return (
            (self.sizes != other.sizes) | (self.times != other.times) | (self.parts != other.parts)
        )

    def state_bytes(self, start: int, stop: int) -> bytes:
        """Return the states of some partitions, from the first to before the last, for digests."""
        part = slice(start, stop)
        state = self.sizes[part].tobytes() + self.times[part].tobytes()
        # Of files, sizes and times say all.
        return state + self.parts[part].tobytes() if self.parts[part].any() else state

    def take(self, chosen: "NDArray[np.integer] | slice") -> "Partitions":
        return Partitions(**{name: values[chosen] for name, values in vars(self).items()})
