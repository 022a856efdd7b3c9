"""Pixels: which of them an audit checks, in which job, and which partitions are near them."""

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixel = tuple[int, int]
"""Order and nested number."""

Floats = npt.NDArray[np.float64]

PIXEL_PATH = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)")

FINEST_ORDER = 29

SKY_END = 12 << 2 * FINEST_ORDER
"""Number of pixels of the finest order on the whole sky."""

BLOCK_SIZE = 1_000_000  # pairs of pixels compared at a time
ROUNDING = 1e-9  # bounds the rounding error of angles between pixel centres, in radians


@dataclass(frozen=True)
class SkyRange:
    """The part of the sky that one job checks: all pixels, of any order, that begin in it.

    It has the name of the job, and ends before the pixel ``end`` of the finest order.
    """

    name: str
    first: int
    end: int

    def contains(self, pixel: Pixel) -> bool:
        return self.first <= first_descendant(pixel) < self.end


def cut_sky(names: Sequence[str], firsts: Sequence[int]) -> tuple[SkyRange, ...]:
    """Cut the whole sky into ranges with these names and first pixels of the finest order."""
    starts = [0, *firsts[1:]]  # the first range begins at pixel 0 in any case
    return tuple(map(SkyRange, names, starts, [*starts[1:], SKY_END]))


def first_descendant(pixel: Pixel) -> int:
    order, number = pixel
    return number << 2 * (FINEST_ORDER - order)


def sort_nested(pixels: Collection[Pixel]) -> list[Pixel]:
    """Return pixels in nested order, in which successive pixels are mostly near one another."""
    return sorted(pixels, key=lambda pixel: (first_descendant(pixel), pixel[0]))


def is_in_sample(pixel: Pixel, fraction: float, seed: int) -> bool:
    """Return whether a sample contains a pixel, independently of all other pixels."""
    digest = hashlib.blake2b(f"{seed} {pixel[0]} {pixel[1]}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def uncovered_sky(pixels: Collection[Pixel]) -> list[Pixel]:
    """Return the largest pixels that cover the sky outside of `pixels`."""
    covered, ancestors = set(pixels), _ancestors(pixels)
    uncovered, level = [], [(0, number) for number in range(12)]
    while level:
        outside = [pixel for pixel in level if pixel not in covered]
        uncovered += [pixel for pixel in outside if pixel not in ancestors]
        level = [
            (order + 1, 4 * number + child)
            for order, number in outside
            if (order, number) in ancestors
            for child in range(4)
        ]
    return uncovered


def overlapping_pixels(pixels: Collection[Pixel], partitions: Collection[Pixel]) -> list[Pixel]:
    """Return the pixels that lie inside a partition or contain one, and are none themselves."""
    known, ancestors = set(partitions), _ancestors(partitions)
    return sorted(
        pixel
        for pixel in set(pixels) - known
        if pixel in ancestors or not known.isdisjoint(_ancestors([pixel]))
    )


def restrict(pixels: Collection[Pixel], only: Collection[Pixel]) -> list[Pixel]:
    """Return those of `pixels` that overlap a pixel of `only`, sorted; all if there is none."""
    if not only:
        return sorted(pixels)
    return sorted({*pixels} & {*only} | {*overlapping_pixels(pixels, only)})


def _ancestors(pixels: Collection[Pixel]) -> set[Pixel]:
    return {(order - up, n >> 2 * up) for order, n in pixels for up in range(1, order + 1)}


def nearby_partitions(
    pixels: Sequence[Pixel], partitions: Sequence[Pixel], threshold: float
) -> Iterator[tuple[Pixel, list[Pixel]]]:
    """Yield each pixel with the partitions that may have points within a threshold (arcsec) of it.

    Two pixels can be nearer than it only if the circles around them are.
    """
    partition_centres, partition_radii = _circles(partitions)
    size = max(1, BLOCK_SIZE // max(1, len(partitions)))
    for start in range(0, len(pixels), size):
        block = pixels[start : start + size]
        centres, radii = _circles(block)
        limit = radii[:, None] + partition_radii + np.radians(threshold / 3600) + ROUNDING
        # Beyond half a turn the cosine would grow again.
        is_near = centres @ partition_centres.T >= np.cos(np.minimum(limit, np.pi)) - ROUNDING**2
        for pixel, row in zip(block, is_near, strict=True):
            yield pixel, [partitions[position] for position in np.flatnonzero(row).tolist()]


def _circles(pixels: Sequence[Pixel]) -> tuple[Floats, Floats]:
    """Return the centres, as unit vectors of shape (n, 3), and the radii in radians."""
    import healpy  # slow, and a workflow that imports this module to start does not need it

    orders, numbers = np.array(pixels, np.int64).reshape(-1, 2).T
    centres = np.zeros((len(orders), 3))
    radii = np.zeros(len(orders))
    for order in np.unique(orders):
        chosen = orders == order
        centres[chosen] = np.transpose(healpy.pix2vec(1 << int(order), numbers[chosen], nest=True))
        radii[chosen] = healpy.max_pixrad(1 << int(order))
    return centres, radii
