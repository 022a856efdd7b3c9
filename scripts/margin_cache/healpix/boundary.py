"""Exact angular distance from points to the boundary of a HEALPix pixel.

In the plane of the HEALPix projection (Gorski et al. 2005, ApJ 622, 759, section 4 and 5.3;
Calabretta & Roukema 2007, MNRAS 381, 865) a pixel is a square that stands on a corner; its four
sides are straight there and curves on the sphere. With ``a`` and ``b`` linear along a side and
``phi0`` the longitude of the face's centre,

* in the equatorial belt, ``z = a`` and ``phi = phi0 + pi/4 * b``;
* in the polar caps, ``|z| = 1 - a**2/3`` and ``phi = phi0 + pi/4 * b/a``, where ``a`` is
  ``sqrt(3 (1 - |z|))``, zero at the pole.

No side crosses from a cap into the belt, because the border between them runs through corners.

The nearest point q(t) of a side to a point p maximises ``f(t) = p . q(t)``, so it is an end of the
side or a zero of ``f'``. Zeros are bracketed by the signs of ``f'`` at equidistant nodes, and by
the sign at the extremum of ``f'`` where two zeros could hide between nodes, and are polished with a
safeguarded Newton iteration. Angles are taken from the difference and the sum of the two vectors
(W. Kahan, "How futile are mindless assessments of roundoff", 2006, section 12), so that the
rounding error of a distance is a few 1e-16 rad, 1e-10 arcsec, whatever the order and the distance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from margin_cache.healpix.nested import ARCSEC_PER_RADIAN, Floats, Ints, split_pixel

_Curve = tuple[Floats, Floats, Floats, tuple[Floats, Floats, Floats, Floats, Floats, Floats]]

_NODES = 9
"""Points on each side where ``f'`` is evaluated before any refinement."""

_LENGTH_BOUND = 1.57
"""No side is longer, in radians, than this times its length in the unit face.

|dq/dx|**2 is at most w**2 (pi/2)**2 + 4/(9 w**2) in the caps, with 5/9 <= w**2 <= 2/3, and less in
the belt.
"""

_MOST_STEPS = 60  # after which bisection alone would have found a zero
_SHORT_STEP = 1e-9  # of Newton's iteration, as a share of a side, after which no other is needed

_CHUNK = 1 << 11
"""Pairs of point and pixel handled at once: some 8 MB of temporary arrays, so that caches help."""

_FACE_ROW = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
_FACE_LONGITUDE = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


# --- the sides of pixels -------------------------------------------------------------------------


@dataclass(frozen=True)
class Sides:
    """Sides of pixels, each with a point to measure from; all arrays have the shape (n,).

    Attributes:
        polar: whether the side lies in a polar cap.
        sign: -1 in the south cap, 1 elsewhere.
        a0, a1, b0, b1: ``a = a0 + a1 t`` and ``b = b0 + b1 t`` for t in [0, 1].
        longitude: longitude of the face's centre minus that of the point, radians.
        radius, height: distance of the point from the polar axis, and its z.
    """

    polar: NDArray[np.bool_]
    sign: Floats
    a0: Floats
    a1: Floats
    b0: Floats
    b1: Floats
    longitude: Floats
    radius: Floats
    height: Floats

    def take(self, chosen: NDArray[np.integer]) -> "Sides":
        """Return some of the sides, which may be repeated."""
        return Sides(**{name: values[chosen] for name, values in vars(self).items()})


def sides_of(lon: Floats, lat: Floats, order: Ints, pixel: Ints) -> Sides:
    """Return the four sides of each of n pixels as arrays of shape (4 n,), pixel by pixel."""
    face, x, y = split_pixel(order, pixel)
    size = np.exp2(-order)[:, None]
    x0 = (x[:, None] + np.array([0, 0, 0, 1])) * size
    y0 = (y[:, None] + np.array([0, 1, 0, 0])) * size
    dx = np.array([1, 1, 0, 0]) * size
    dy = np.array([0, 0, 1, 1]) * size

    row = _FACE_ROW[face][:, None] - x0 - y0
    row_step = -(dx + dy)
    middle = row + row_step / 2
    north = middle < 1
    south = middle > 3
    polar = north | south
    a0 = np.where(north, row, np.where(south, 4 - row, (2 - row) * (2 / 3)))
    a1 = np.where(north, row_step, np.where(south, -row_step, row_step * (-2 / 3)))

    def flat(values: Floats) -> Floats:
        return np.broadcast_to(values, polar.shape).ravel()

    longitude = _FACE_LONGITUDE[face] * (np.pi / 4) - np.deg2rad(lon)
    latitude = np.deg2rad(lat)
    return Sides(
        polar=polar.ravel(),
        sign=np.where(south, -1.0, 1.0).ravel(),
        a0=a0.ravel(),
        a1=a1.ravel(),
        b0=(x0 - y0).ravel(),
        b1=(dx - dy).ravel(),
        longitude=flat(longitude[:, None]),
        radius=flat(np.cos(latitude)[:, None]),
        height=flat(np.sin(latitude)[:, None]),
    )


@dataclass(frozen=True)
class Values:
    """The angle from the point p to q(t) on a side, and two derivatives of ``f = p . q(t)`` by t.

    The angle is in radians; p and q are unit vectors, so f is its cosine.
    """

    angle: Floats
    slope: Floats
    bend: Floats

    def take(self, chosen: NDArray[np.integer]) -> "Values":
        return Values(self.angle[chosen], self.slope[chosen], self.bend[chosen])


def evaluate(sides: Sides, t: Floats) -> Values:
    """Return the angle and the derivatives of n sides at parameters t from 0 to 1.

    The shape of t, and of the results, is (n,), or (n, m) for m values of each side.
    """
    angle, slope, bend = np.empty((3, *t.shape))
    for chosen, curve in (
        (np.flatnonzero(sides.polar), _polar_curve),
        (np.flatnonzero(~sides.polar), _belt_curve),
    ):
        if not len(chosen):
            continue
        part = sides.take(chosen if t.ndim == 1 else chosen[:, None])
        radius, z, longitude, derivatives = curve(part, t[chosen])
        cos, sin = np.cos(longitude), np.sin(longitude)
        outward1, along1, z1, outward2, along2, z2 = derivatives
        outward, along = radius * cos, radius * sin
        difference = (outward - part.radius) ** 2 + along**2 + (z - part.height) ** 2
        total = (outward + part.radius) ** 2 + along**2 + (z + part.height) ** 2
        angle[chosen] = 2 * np.arctan2(np.sqrt(difference), np.sqrt(total))
        slope[chosen] = part.radius * (outward1 * cos - along1 * sin) + part.height * z1
        bend[chosen] = part.radius * (outward2 * cos - along2 * sin) + part.height * z2
    return Values(angle, slope, bend)


def _belt_curve(sides: Sides, t: Floats) -> _Curve:
    """Return points q(t) of sides in the belt, and their derivatives; all have the shape of t.

    Returns:
        Distance from the polar axis, z, and longitude minus that of the point p; and the
        components (outward, along the parallel, in z) of the first, then of the second derivative
        of q by t.
    """
    z = sides.a0 + sides.a1 * t
    angle = sides.longitude + (np.pi / 4) * (sides.b0 + sides.b1 * t)
    turn = (np.pi / 4) * sides.b1
    radius = np.sqrt(1 - z * z)
    radius1 = -z * sides.a1 / radius
    radius2 = -(sides.a1**2 + radius1**2) / radius
    derivatives = (
        radius1,
        radius * turn,
        sides.a1,
        radius2 - radius * turn**2,
        2 * radius1 * turn,
        np.zeros_like(z),
    )
    return radius, z, angle, derivatives


def _polar_curve(sides: Sides, t: Floats) -> _Curve:
    """Return points of sides in a polar cap, and their derivatives, as ``_belt_curve`` does.

    With ``w = sqrt((2 - a**2/3)/3)`` the radius is ``a w``, and the derivative of the longitude
    times the radius is ``w * turn``, which is finite at the pole.
    """
    a = sides.a0 + sides.a1 * t
    safe = np.maximum(a, np.finfo(np.float64).tiny)
    ratio = (sides.b0 + sides.b1 * t) / safe
    angle = sides.longitude + (np.pi / 4) * ratio
    turn = (np.pi / 4) * (sides.b1 - ratio * sides.a1)
    w = np.sqrt((2 - a * a / 3) / 3)
    w1 = -a / (9 * w)
    w2 = -(1 / 9 + w1 * w1) / w
    step = sides.a1
    derivatives = (
        step * (w + a * w1),
        w * turn,
        sides.sign * (-2 / 3) * a * step,
        step**2 * (2 * w1 + a * w2) - w * turn * (turn / safe),
        2 * turn * step * w1,
        sides.sign * (-2 / 3) * step**2,
    )
    return a * w, sides.sign * (1 - a * a / 3), angle, derivatives


# --- distances -----------------------------------------------------------------------------------


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
