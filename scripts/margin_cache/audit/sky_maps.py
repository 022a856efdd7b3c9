"""Sky maps of the numbers of rows of pixels."""

from collections.abc import Mapping
from pathlib import Path

import healpy
import matplotlib
import numpy as np
import numpy.typing as npt

from margin_cache.audit.pixels import Pixel

FINEST = 7  # rows of smaller pixels are added up: a point of the picture is larger


def sky_map(rows: Mapping[Pixel, int]) -> npt.NDArray[np.float64]:
    """Return a nested healpy map of the rows of pixels; NaN where there is no pixel."""
    order = min(FINEST, max((order for order, _ in rows), default=0))
    values = np.full(12 << 2 * order, np.nan)
    for (finer, number), count in rows.items():
        first = number << 2 * order >> 2 * finer
        last = (number + 1) << 2 * order >> 2 * finer if finer <= order else first + 1
        before = values[first:last]
        values[first:last] = np.where(np.isnan(before), 0, before) + count
    return values


def draw_sky_map(rows: Mapping[Pixel, int], title: str, path: Path) -> None:
    """Draw the rows of pixels on the whole sky, in equatorial coordinates, as a PNG file.

    Args:
        rows: Number of rows of each pixel.
        title: What they are.
        path: The file, whatever its name ends with.
    """
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    values = sky_map(rows)
    figure = plt.figure(figsize=(9, 5.5))
    most = max(1.0, float(np.nanmax(values, initial=0)))
    healpy.mollview(
        values, fig=figure, nest=True, title=title, unit="rows", min=0, max=most, cmap="cividis"
    )
    healpy.graticule(color="grey")
    plt.savefig(path, dpi=150, format="png")
    plt.close(figure)
