"""Distance of one point to one pixel, with 60 digits."""

from dataclasses import dataclass

from mpmath import mp, mpf

from support.oracle.bounds import (
    BEND_BOUND,
    EDGES,
    FIRST_INTERVALS,
    POLAR_BEND_BOUND,
    SPEED_BOUND,
    TOLERANCE_ARCSEC,
)

MpVector = tuple[mpf, mpf, mpf]


@dataclass(frozen=True)
class _MpEdge:
    """One pixel edge in the plane: (centre + dx + slope s h, y + s h)."""

    centre: int
    dx: mpf
    y: mpf
    slope: int
    h: mpf

    def point(self, s: mpf) -> MpVector:
        """Unit vector of the edge at parameter s in [0, 1]."""
        dx = self.dx + self.slope * s * self.h
        y = self.y + s * self.h
        if abs(y) <= 1:
            z = 2 * y / 3
        else:
            sigma = 2 - abs(y)
            z = mp.sign(y) * (1 - sigma**2 / 3)
            dx = dx / sigma if sigma else mpf(0)
        cosine, sine = mp.cos_sin((self.centre + dx) * mp.pi / 4)
        rho = mp.sqrt((1 - z) * (1 + z))
        return rho * cosine, rho * sine, z

    def is_meridian(self) -> bool:
        """Whether the edge is polar and on the border of its face."""
        return abs(self.y + self.h / 2) > 1 and all(
            abs(self.dx + self.slope * s * self.h) == 2 - abs(self.y + s * self.h) for s in (0, 1)
        )

    def bend(self) -> mpf:
        """Upper bound of |C''| of an edge that is no meridian."""
        far_y = max(abs(self.y), abs(self.y + self.h))
        polar = POLAR_BEND_BOUND / (2 - far_y) if far_y > 1 else 0
        return (BEND_BOUND + polar) * self.h**2

    def foot_on_meridian(self, target: MpVector) -> MpVector | None:
        """Foot of the perpendicular from target on a meridian edge, if on the edge."""
        side = 1 if self.dx + self.slope * self.h / 2 > 0 else -1
        cosine, sine = mp.cos_sin((self.centre + side) * mp.pi / 4)
        latitude = mp.atan2(target[2], target[0] * cosine + target[1] * sine)
        south, north = (mp.asin(self.point(mpf(s))[2]) for s in (0, 1))
        if not south <= latitude <= north:
            return None
        return mp.cos(latitude) * cosine, mp.cos(latitude) * sine, mp.sin(latitude)


def _mp_edges(order: int, pixel: int) -> list[_MpEdge]:
    """The four edges of a nested pixel."""
    face, rest = divmod(pixel, 4**order)
    i = sum((rest >> (2 * bit) & 1) << bit for bit in range(order))
    j = sum((rest >> (2 * bit + 1) & 1) << bit for bit in range(order))
    row, column = divmod(face, 4)
    h = mpf(1) / 2**order
    return [
        _MpEdge(
            centre=2 * column + (1, 0, 1)[row],
            dx=(i + di - j - dj) * h,
            y=(i + di + j + dj) * h - row,
            slope=slope,
            h=h,
        )
        for di, dj, slope in EDGES
    ]


def exact_distance(lon_deg: float, lat_deg: float, order: int, pixel: int) -> float:
    """Angular distance (arcsec) from one point to the boundary of one pixel.

    The doubles ``lon_deg`` and ``lat_deg`` (degrees) are taken as exact.

    Branch and prune with 60 digits.  The squared chord ``f(s) = |C - P|**2`` has
    ``f'' = 2 |C'|**2 + 2 (C - P).C'' = -2 |C'|**2 - 2 (C + P).C''``, so on an
    interval of length ``d`` f is nowhere below the smaller end value minus
    ``max|f''| d**2 / 8``.  Intervals which therefore cannot hold the global
    minimum are dropped, the others halved, until the gap between the best
    value found and the proven lower bound is below TOLERANCE_ARCSEC.
    """
    with mp.workdps(60):
        degree = mp.pi / 180
        cos_lon, sin_lon = mp.cos_sin(mpf(float(lon_deg)) * degree)
        cos_lat, sin_lat = mp.cos_sin(mpf(float(lat_deg)) * degree)
        target = (cos_lat * cos_lon, cos_lat * sin_lon, sin_lat)
        tolerance = mpf(TOLERANCE_ARCSEC) * degree / 3600

        def squared_chord(point: MpVector) -> mpf:
            return sum((c - p) ** 2 for c, p in zip(point, target))

        def angle(squared: mpf) -> mpf:
            return 2 * mp.asin(mp.sqrt(min(max(squared, mpf(0)), mpf(4))) / 2)

        width = mpf(1) / FIRST_INTERVALS
        intervals = []  # (edge, |C''| bound, start, f(start), f(end))
        best = mpf(4)
        for edge in _mp_edges(int(order), int(pixel)):
            if edge.is_meridian():
                foot = edge.foot_on_meridian(target)
                nearest = [edge.point(mpf(0)), edge.point(mpf(1))] + ([foot] if foot else [])
                best = min(best, *(squared_chord(point) for point in nearest))
                continue
            values = [squared_chord(edge.point(k * width)) for k in range(FIRST_INTERVALS + 1)]
            best = min(best, *values)
            for k in range(FIRST_INTERVALS):
                intervals.append((edge, edge.bend(), k * width, values[k], values[k + 1]))

        while True:
            kept = []
            floor = best
            for edge, bend, start, at_start, at_end in intervals:
                speed = SPEED_BOUND * edge.h
                reach = mp.sqrt(min(at_start, abs(4 - at_start))) + speed * width
                drop = 2 * (speed**2 + reach * bend) * width**2 / 8
                lowest = min(at_start, at_end) - drop
                if lowest <= best:
                    kept.append((edge, bend, start, at_start, at_end))
                    floor = min(floor, lowest)
            if angle(best) - angle(floor) <= tolerance:
                return float(angle(best) / degree * 3600)
            width /= 2
            intervals = []
            for edge, bend, start, at_start, at_end in kept:
                at_middle = squared_chord(edge.point(start + width))
                best = min(best, at_middle)
                intervals.append((edge, bend, start, at_start, at_middle))
                intervals.append((edge, bend, start + width, at_middle, at_end))
