"""Reference answers for the tests, computed from the definition of HEALPix.

Nothing here is shared with the library under test, and nothing here calls a HEALPix package. Speed
is secondary: every answer comes with a proven bound. bounds.py tells how.
"""

from support.oracle.bounds import ARCSEC, SPEED_BOUND
from support.oracle.distances import PixelEdges, angles_between, exact_distances, unit_vectors
from support.oracle.margins import (
    AMBIGUOUS_ARCSEC,
    boundary_samples,
    brute_force_margin,
    brute_force_margins,
    half_gap,
    negative_pixels,
)
from support.oracle.one_pair import exact_distance

__all__ = [
    "AMBIGUOUS_ARCSEC",
    "ARCSEC",
    "SPEED_BOUND",
    "PixelEdges",
    "angles_between",
    "boundary_samples",
    "brute_force_margin",
    "brute_force_margins",
    "exact_distance",
    "exact_distances",
    "half_gap",
    "negative_pixels",
    "unit_vectors",
]
