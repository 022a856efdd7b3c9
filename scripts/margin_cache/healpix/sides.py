"""The sides of HEALPix pixels as curves on the sphere.

In the plane of the HEALPix projection (Gorski et al. 2005, ApJ 622, 759, section 4 and 5.3;
Calabretta & Roukema 2007, MNRAS 381, 865) a pixel is a square that stands on a corner; its four
sides are straight there and curves on the sphere. With ``a`` and ``b`` linear along a side and
``phi0`` the longitude of the face's centre,

* in the equatorial belt, ``z = a`` and ``phi = phi0 + pi/4 * b``;
* in the polar caps, ``|z| = 1 - a**2/3`` and ``phi = phi0 + pi/4 * b/a``, where ``a`` is
  ``sqrt(3 (1 - |z|))``, zero at the pole.

No side crosses from a cap into the belt, because the border between them runs through corners.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margin_cache.healpix.nested import Ints, split_pixel

Floats = NDArray[np.float64]
_Curve = tuple[Floats, Floats, Floats, tuple[Floats, Floats, Floats, Floats, Floats, Floats]]

_FACE_ROW = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
_FACE_LONGITUDE = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


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
