"""The definition of HEALPix, as plane coordinates, and bounds on its edges.

Nothing here is shared with the library under test, and nothing here calls a
HEALPix package.  Speed is secondary: every answer comes with a proven bound.

The projection
--------------
Gorski et al. 2005 (ApJ 622, 759) and Calabretta & Roukema 2007 (MNRAS 381,
865; H = 4, K = 3).  With plane coordinates (x, y) in units of pi/4:

* ``|y| <= 1`` (equatorial):  ``longitude = x``,  ``sin(latitude) = 2 y / 3``;
* ``|y| > 1`` (polar):  ``sigma = 2 - |y|``,
  ``|sin(latitude)| = 1 - sigma**2 / 3``,
  ``longitude = centre + (x - centre) / sigma``,
  where ``centre`` is the x of the centre of the base pixel (face).

Face ``f`` is the square standing on its corner with half diagonal 1 around
``y = 1, 0, -1`` for ``f // 4 = 0, 1, 2`` and ``x = 2 (f % 4) + (1, 0, 1)``.
The nested number interleaves two coordinates: ``i`` (even bits) grows towards
(+x, +y), ``j`` (odd bits) towards (-x, +y).  So every pixel edge is a straight
piece of the plane with direction (+1, +1) or (-1, +1), and since the corners
of all pixels with ``|y| = 1`` lie on that line, no edge crosses it: each edge
is one analytic curve.

Bounds used
-----------
Let ``C(s)``, ``0 <= s <= 1``, be an edge as unit vector and ``h = 1 / nside``.
Differentiating the formulas above gives

* ``|C'| <= 1.53 h`` everywhere;
* ``|C''| <= 2 h**2`` for equatorial edges and
  ``|C''| <= h**2 (2 + 2.1 / sigma_min)`` for polar edges.

Polar edges on the border of a face (``|x - centre| = sigma``) are meridians.
These are great circles, the only edges that can be equally far from a point
everywhere, and get a closed formula; only they reach the pole
(``sigma_min = 0``).  ``tests/workflow/test_oracle.py`` checks both
bounds by finite differences.
"""

import numpy as np
import numpy.typing as npt

Real = np.longdouble
RealArray = npt.NDArray[np.longdouble]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TOLERANCE_ARCSEC = 1e-10
"""Proven error (apart from rounding) of the distances computed here."""

SPEED_BOUND = 1.53
BEND_BOUND = 2.0
POLAR_BEND_BOUND = 2.1

PI = Real("3.14159265358979323846264338327950288")
ARCSEC = PI / (180 * 3600)

# Start corner (i, j) within the pixel and x direction of its four edges.
EDGES = ((0, 0, 1), (0, 1, 1), (0, 0, -1), (1, 0, -1))

FIRST_INTERVALS = 8
