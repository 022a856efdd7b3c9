"""Pixels, as the audit has them."""

Pixel = tuple[int, int]
"""Order and nested number."""

FINEST = 29
"""The finest order."""
