"""Draw docs/losses.png: where the crossmatch of docs/tutorial.md loses its pairs.

`make pictures` runs it. The surveys are made and imported by the commands of the tutorial.
"""

import sys
import tempfile
from itertools import islice
from pathlib import Path

import hpgeom
import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial import KDTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.pages import blocks, follow  # noqa: E402  # needs the path of the line above
from support.peer_environments import peer_python  # noqa: E402

mpl.use("Agg")
RADIUS = np.radians(3 / 3600)


def unit_vectors(survey: pd.DataFrame) -> np.ndarray:
    return hpgeom.angle_to_vector(survey["ra"], survey["dec"]).reshape(-1, 3)


def partitions_at(survey: pd.DataFrame, partitions: np.ndarray) -> np.ndarray:
    """Return the number of the partition that each star is in, or -1."""
    found = np.full(len(survey), -1)
    for number, (order, pixel) in enumerate(partitions):
        pixels = hpgeom.angle_to_pixel(2**order, survey["ra"], survey["dec"])
        found[pixels == pixel] = number
    return found


def draw(directory: Path) -> None:
    from matplotlib import pyplot

    first, second = (pd.read_csv(directory / f"{name}.csv") for name in ("first", "second"))
    partitions = pd.read_csv(directory / "catalogs/second/partition_info.csv").to_numpy()
    distance, nearest = KDTree(unit_vectors(second)).query(unit_vectors(first))
    homes = partitions_at(first, partitions), partitions_at(second, partitions)[nearest]
    lost = first[(distance <= 2 * np.sin(RADIUS / 2)) & (homes[0] != homes[1])]

    figure, axes = pyplot.subplots(figsize=(6.4, 6.2), layout="constrained")
    for order, pixel in partitions:
        ra, dec = hpgeom.boundaries(2**order, pixel, step=8)
        axes.fill(ra, dec, facecolor="none", edgecolor="0.6", linewidth=0.7)
    axes.scatter(lost["ra"], lost["dec"], s=28, color="#d1501f", zorder=2, label="lost pairs")
    axes.set(xlim=(162.5, 149.5), ylim=(-6.5, 6.5), xlabel="ra (deg)", ylabel="dec (deg)")
    axes.set_title(f"{len(lost)} lost pairs, and the pixels of the second survey", fontsize=11)
    axes.set_aspect("equal")
    figure.savefig(directory / "losses.png", dpi=110)
    picture = Image.open(directory / "losses.png").convert("RGB").quantize(32)
    picture.save(ROOT / "docs/losses.png", optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "hats-env").symlink_to(peer_python("hats-import").parents[1])
        follow(islice(blocks("tutorial.md"), 1, 7), scratch)  # up to the imports
        draw(scratch)
