"""Geometry of HEALPix pixels: pure functions on arrays.

- ``nested``: pixels, and what follows from their numbers alone
- ``neighbors``: which pixels touch, where they are, and which pixel a point is in
- ``boundary``: exact distance from points to pixels; ``sides``: the curves that bound a pixel
- ``margin_filter``: the coarse filter of rows; ``adjacency``: which pixels are near each other
"""
