"""Geometry of HEALPix pixels: pure functions on arrays.

- ``nested``: pixels, and what follows from their numbers alone
- ``boundary``: exact distance from points to pixels
- ``neighbors``: which pixels touch or are near each other; the filters that find rows of margins
"""
