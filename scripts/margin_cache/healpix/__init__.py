"""Geometry of HEALPix pixels: pure functions on arrays, which know of no file and no plan."""
