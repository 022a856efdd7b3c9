"""Arithmetic on nested HEALPix pixels.

A pixel is a pair (order, pixel): the HEALPix resolution parameter, ``nside = 2**order``, and the
number in the NESTED scheme of Gorski et al. (2005, ApJ 622, 759). The nested number of a pixel is
its base face followed by two bits a level, one of x (even bits) and one of y (odd bits), so that
the pixels inside another are a contiguous range at any finer order.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_ORDER = 29
"""The finest order whose nested pixel numbers fit into 64 bits."""

_EVEN_BITS = 0x5555555555555555

ARCSEC_PER_RADIAN = 180.0 * 3600.0 / math.pi

COARSE_FACTOR = 1.6
"""``resolution(order) / COARSE_FACTOR`` is less than the least thickness of any cell of an order.

The least thickness is ``resolution / 1.485``, in cells near the edges of the polar faces.
"""


class Pixel(NamedTuple):
    """A HEALPix pixel: its order, and its number in the NESTED scheme."""

    order: int
    number: int


def as_pixels(orders: Ints, numbers: Ints) -> Iterator[Pixel]:
    """Yield the pixels that two arrays of shape (n,) hold."""
    return map(Pixel, orders.tolist(), numbers.tolist())


def resolution(order: int) -> float:
    """Return the square root of a pixel's area at an order, in arcsec."""
    return math.sqrt(math.pi / 3.0) / 2**order * ARCSEC_PER_RADIAN


def finest_margin_order(threshold: float) -> int:
    """Return the finest order whose cells are nowhere thinner than a threshold.

    At this order and at every coarser one, all points within the threshold of a point are in the
    point's cell or in one that touches it. The threshold is in arcsec, at most
    ``resolution(0) / COARSE_FACTOR``.
    """
    return min(MAX_ORDER, math.floor(math.log2(resolution(0) / (COARSE_FACTOR * threshold))))


def pixel_ranges(
    orders: NDArray[np.integer], pixels: NDArray[np.integer], order: int = MAX_ORDER
) -> tuple[Ints, Ints]:
    """Return the half-open ranges that pixels cover at an order that is at least theirs.

    Returns:
        First pixel and one past the last pixel, each int64 of shape (n,).
    """
    shift = 2 * (order - np.asarray(orders, dtype=np.int64))
    pixels = np.asarray(pixels, dtype=np.int64)
    return pixels << shift, (pixels + 1) << shift


def expand_ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Return all numbers in half-open ranges, preceded by the index of the range of each.

    A range that ends before it begins is empty.
    """
    lengths = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(first)), lengths)
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return which, first[which] + np.arange(len(which)) - before


def split_pixel(order: NDArray[np.integer], pixel: NDArray[np.integer]) -> tuple[Ints, Ints, Ints]:
    """Split n nested pixels into base face (0 to 11), x and y (0 to ``2**order - 1``)."""
    order = np.asarray(order, dtype=np.int64)
    pixel = np.asarray(pixel, dtype=np.int64)
    face = pixel >> (2 * order)
    inside = pixel & ((np.int64(1) << (2 * order)) - 1)
    return face, _even_bits(inside), _even_bits(inside >> 1)


def _even_bits(value: Ints) -> Ints:
    """Gather the bits of even position into the low half of each number."""
    value = value & _EVEN_BITS
    for shift, mask in (
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    ):
        value = (value | (value >> shift)) & mask
    return value


def touches_border(
    index: NDArray[np.integer], shift: int, order: int, cell_order: int
) -> NDArray[np.bool_]:
    """Return a mask of the rows of one pixel that are in cells at the pixel's border.

    A cell touches the border if its x or y, counted inside the pixel, has only zero bits or only
    one bits. These are four masked comparisons of the index, which need not be unpacked.

    Args:
        index: values of a spatial index, int64 or uint64 of shape (n,).
        shift: number of bits to the right of the bits of ``cell_order`` in the index.
        order: order of the pixel that holds all rows.
        cell_order: order of the cells, not below ``order``.
    """
    inside = ((1 << (2 * (cell_order - order))) - 1) << shift
    near = np.zeros(index.shape, dtype=bool)
    even = _EVEN_BITS << (shift % 2)
    for bits in (inside & even, inside & ~even):
        mask = index.dtype.type(bits)
        masked = index & mask
        near |= masked == 0
        near |= masked == mask
    return near


def negative_pixels(orders: NDArray[np.integer], pixels: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Return the largest pixels that cover the sky outside n disjoint pixels, in nested order."""
    orders = np.asarray(orders, dtype=np.int64)
    pixels = np.asarray(pixels, dtype=np.int64)
    found_orders, found_pixels = [], []
    candidates = np.arange(12, dtype=np.int64)
    for order in range(int(orders.max(initial=0)) + 1):
        inner = np.unique(pixels[orders > order] >> (2 * (orders[orders > order] - order)))
        split = np.isin(candidates, inner)
        empty = candidates[~split & ~np.isin(candidates, pixels[orders == order])]
        found_orders.append(np.full(len(empty), order))
        found_pixels.append(empty)
        candidates = (4 * candidates[split][:, None] + np.arange(4)).ravel()
    result_orders = np.concatenate(found_orders).astype(np.int64)
    result_pixels = np.concatenate(found_pixels).astype(np.int64)
    nested = np.argsort(pixel_ranges(result_orders, result_pixels)[0])
    return result_orders[nested], result_pixels[nested]
