"""Which pixels a margin can have rows for: partitions, what it lists, and the sky beside them."""

from collections.abc import Collection, Iterator, Sequence

import healpy
import numpy as np
import numpy.typing as npt

from margin_cache.audit.pixels import Pixel, beginning

BLOCK = 4_000_000  # pairs of pixels at a time
ROUNDING = 1e-9  # of angles between the centres of pixels, in radians; much more than there is


def rest_of_sky(pixels: Collection[Pixel]) -> list[Pixel]:
    """Return the largest pixels that overlap none of those given and cover the rest of the sky."""
    given = set(pixels)
    above = {(order - up, n >> 2 * up) for order, n in given for up in range(1, order + 1)}
    rest, level = [], [(0, number) for number in range(12)]
    while level:
        rest += [pixel for pixel in level if pixel not in given and pixel not in above]
        split = [pixel for pixel in level if pixel in above and pixel not in given]
        level = [(order + 1, 4 * number + child) for order, number in split for child in range(4)]
    return rest


def overlapping(pixels: Collection[Pixel], partitions: Collection[Pixel]) -> list[Pixel]:
    """Return those pixels that are no partition, but inside one or around one."""
    known = set(partitions)
    around = {(order - up, n >> 2 * up) for order, n in known for up in range(1, order + 1)}
    return sorted(
        (order, number)
        for order, number in set(pixels) - known
        if (order, number) in around
        or any((order - up, number >> 2 * up) in known for up in range(1, order + 1))
    )


def nested(pixels: Collection[Pixel]) -> list[Pixel]:
    """Return pixels in nested order, in which neighbours are mostly near one another."""
    return sorted(pixels, key=lambda pixel: (beginning(pixel), pixel[0]))


def partitions_around(
    pixels: Sequence[Pixel], partitions: Sequence[Pixel], threshold: float
) -> Iterator[tuple[Pixel, list[Pixel]]]:
    """Yield each pixel with the partitions that may have points within a threshold of it.

    Two pixels are nearer than a threshold only if the circles around them, whose radius healpy has
    for each order, are.

    Args:
        pixels: The pixels.
        partitions: The partitions of the primary.
        threshold: Arcsec.
    """
    centres, radii = _circles(partitions)
    size = max(1, BLOCK // max(1, len(partitions)))
    for start in range(0, len(pixels), size):
        block = pixels[start : start + size]
        here, reach = _circles(block)
        limit = reach[:, None] + radii + np.radians(threshold / 3600) + ROUNDING
        # Beyond half a turn the cosine would grow again.
        near = here @ centres.T >= np.cos(np.minimum(limit, np.pi)) - ROUNDING**2
        for pixel, which in zip(block, near, strict=True):
            yield pixel, [partitions[at] for at in np.flatnonzero(which).tolist()]


def _circles(
    pixels: Sequence[Pixel],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    orders, numbers = np.array(pixels, np.int64).reshape(-1, 2).T
    centres = np.zeros((len(orders), 3))
    radii = np.zeros(len(orders))
    for order in np.unique(orders):
        chosen = orders == order
        centres[chosen] = np.transpose(healpy.pix2vec(1 << int(order), numbers[chosen], nest=True))
        radii[chosen] = healpy.max_pixrad(1 << int(order))
    return centres, radii
