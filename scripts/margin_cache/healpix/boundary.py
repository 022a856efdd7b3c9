"""Exact angular distance from points to the boundary of a HEALPix pixel.

The boundary is the true one, composed of the curves of ``sides``.

The nearest point of a side maximises ``f(t) = p . q(t)``, so it is an end of the side or a zero
of ``f'``. Zeros are bracketed by the signs of ``f'`` at equidistant nodes, and by the sign at the
extremum of ``f'`` where two zeros could hide between nodes, and are polished with a safeguarded
Newton iteration. Angles are taken from the difference and the sum of the two vectors (W. Kahan,
"How futile are mindless assessments of roundoff", 2006, section 12), so that the rounding error of
a distance is a few 1e-16 rad, 1e-10 arcsec, whatever the order and the distance.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from margin_cache.healpix.nested import ARCSEC_PER_RADIAN, Ints
from margin_cache.healpix.sides import Floats, Sides, Values, evaluate, sides_of

_NODES = 9
"""Points on each side where ``f'`` is evaluated before any refinement; ``f = p . q(t)``."""

_LENGTH_BOUND = 1.57
"""No side is longer, in radians, than this times its length in the unit face.

|dq/dx|**2 is at most w**2 (pi/2)**2 + 4/(9 w**2) in the caps, with 5/9 <= w**2 <= 2/3, and less in
the belt.
"""

_MOST_STEPS = 60  # after which bisection alone would have found a zero
_SHORT_STEP = 1e-9  # of Newton's iteration, as a share of a side, after which no other is needed

_CHUNK = 1 << 11
"""Pairs of point and pixel handled at once: some 8 MB of temporary arrays, so that caches help."""


def distance_to_pixel(lon: ArrayLike, lat: ArrayLike, order: ArrayLike, pixel: ArrayLike) -> Floats:
    """Return the angular distance in arcsec from points to the boundaries of pixels, shape (n,).

    Points are in degrees, orders 0 to 29, numbers nested; all of shape (n,) or scalar. A point
    inside a pixel has the distance to the nearest point of its boundary too. The error is below
    1e-6 arcsec.
    """
    parts = [
        _refine(sides, nodes, orders, nearest)
        for sides, nodes, orders, nearest in _evaluate(lon, lat, order, pixel)
    ]
    return ARCSEC_PER_RADIAN * np.concatenate([np.empty(0), *parts])


def is_within(
    lon: ArrayLike, lat: ArrayLike, order: ArrayLike, pixel: ArrayLike, threshold: float
) -> NDArray[np.bool_]:
    """Return a mask of the points within a threshold (arcsec) of the boundaries of pixels.

    Equal to ``distance_to_pixel(...) <= threshold``, but faster, because the distances to a few
    points of the boundary decide for most pairs.
    """
    parts = [np.empty(0, dtype=bool)]
    for sides, nodes, orders, nearest in _evaluate(lon, lat, order, pixel):
        # In arcsec as below: otherwise rounding could leave a pair between the two comparisons.
        beyond = ARCSEC_PER_RADIAN * nearest > threshold
        reach = threshold / ARCSEC_PER_RADIAN + _gap(orders) / 2
        unsure = np.flatnonzero(beyond & (nearest <= reach))
        if len(unsure):
            rows = (4 * unsure[:, None] + np.arange(4)).ravel()
            nearest[unsure] = _refine(
                sides.take(rows), nodes.take(rows), orders[unsure], nearest[unsure]
            )
        parts.append(ARCSEC_PER_RADIAN * nearest <= threshold)
    return np.concatenate(parts)


def _evaluate(
    lon: ArrayLike, lat: ArrayLike, order: ArrayLike, pixel: ArrayLike
) -> Iterator[tuple[Sides, Values, Ints, Floats]]:
    """Evaluate the sides of n pixels at equidistant nodes, some pixels at a time.

    Yields:
        sides, shape (4 n,); their values at the nodes, shape (4 n, _NODES); the orders of the
        pixels, and the least angle from the point to a node of the pixel, both of shape (n,).
    """
    pairs = np.atleast_1d(
        *np.broadcast_arrays(
            np.asarray(lon, dtype=np.float64),
            np.asarray(lat, dtype=np.float64),
            np.asarray(order, dtype=np.int64),
            np.asarray(pixel, dtype=np.int64),
        )
    )
    for start in range(0, len(pairs[0]), _CHUNK):
        lons, lats, orders, pixels = (values[start : start + _CHUNK] for values in pairs)
        sides = sides_of(lons, lats, orders, pixels)
        nodes = np.broadcast_to(np.linspace(0, 1, _NODES), (len(sides.a0), _NODES))
        values = evaluate(sides, nodes)
        yield sides, values, orders, values.angle.reshape(-1, 4 * _NODES).min(axis=1)


def _gap(order: Ints) -> Floats:
    """Return a bound on the angle between neighbouring nodes of a pixel's side, in radians."""
    return _LENGTH_BOUND / (_NODES - 1) / np.exp2(order)


def _refine(sides: Sides, nodes: Values, order: Ints, nearest: Floats) -> Floats:
    """Return the least angle from each point to the sides of its pixel, in radians, shape (n,).

    The arguments are what ``_evaluate`` yields.
    """
    nearest = nearest.copy()
    angle = nodes.angle
    # No point between two nodes is nearer than this, by the triangle inequality.
    bound = (angle[:, :-1] + angle[:, 1:] - np.repeat(_gap(order), 4)[:, None]) / 2
    promising = bound < np.repeat(nearest, 4)[:, None]
    before, after = nodes.slope[:, :-1], nodes.slope[:, 1:]
    bend_before, bend_after = nodes.bend[:, :-1], nodes.bend[:, 1:]

    side, node = np.nonzero(promising & (before > 0) & (after < 0))
    low, high = _node_interval(node)
    # Two zeros of f' between nodes: f' has an extremum there that reaches beyond zero.
    dip = (before > 0) & (after > 0) & (bend_before < 0) & (bend_after > 0)
    bump = (before < 0) & (after < 0) & (bend_before > 0) & (bend_after < 0)
    hidden_side, hidden_node = np.nonzero(promising & (dip | bump))
    if len(hidden_side):
        hidden_low, hidden_high = _node_interval(hidden_node)
        is_dip = dip[hidden_side, hidden_node]
        extremum = _bisect_bend(sides.take(hidden_side), hidden_low, hidden_high, is_dip)
        beyond = evaluate(sides.take(hidden_side), extremum).slope * np.where(is_dip, 1, -1) < 0
        low = np.concatenate([low, np.where(is_dip, hidden_low, extremum)[beyond]])
        high = np.concatenate([high, np.where(is_dip, extremum, hidden_high)[beyond]])
        side = np.concatenate([side, hidden_side[beyond]])

    np.minimum.at(nearest, side // 4, _least_angle(sides.take(side), low, high))
    return nearest


def _node_interval(node: NDArray[np.integer]) -> tuple[Floats, Floats]:
    return node / (_NODES - 1), (node + 1) / (_NODES - 1)


def _bisect_bend(sides: Sides, low: Floats, high: Floats, rising: NDArray[np.bool_]) -> Floats:
    """Return where ``f''`` changes its sign, from negative to positive where ``rising``."""
    for _ in range(40):
        middle = (low + high) / 2
        right = (evaluate(sides, middle).bend < 0) == rising
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    return (low + high) / 2


def _least_angle(sides: Sides, low: Floats, high: Floats) -> Floats:
    """Return the least angle from the point to each side, in an interval of its parameter t.

    There the derivative of ``f = p . q(t)``, the cosine of the angle, falls from plus to minus.
    Newton's iteration finds its zero, with a bisection wherever a step leaves the interval.
    """
    low, high = low.copy(), high.copy()
    t = (low + high) / 2
    active = np.arange(len(low))
    for _ in range(_MOST_STEPS):
        here = t[active]
        values = evaluate(sides.take(active), here)
        rising = values.slope > 0
        low[active] = np.where(rising, here, low[active])
        high[active] = np.where(rising, high[active], here)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = here - values.slope / values.bend
        inside = (newton >= low[active]) & (newton <= high[active])
        t[active] = np.where(inside, newton, (low[active] + high[active]) / 2)
        # Newton's error is squared by each step, so one this short leads to the zero itself.
        active = active[np.abs(t[active] - here) > _SHORT_STEP]
        if not len(active):
            break
    return evaluate(sides, t).angle
