"""Pixels, as the audit has them."""

Pixel = tuple[int, int]
"""Order and nested number."""

FINEST = 29
"""The finest order."""


def beginning(pixel: Pixel) -> int:
    """Return the first of the finest pixels in a pixel, by its nested number."""
    order, number = pixel
    return number << 2 * (FINEST - order)
