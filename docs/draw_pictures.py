"""Draw the pictures in README.md: a partition, the beginning of a report, and an audit."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import healpy
import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from margin_cache.healpix.boundary import distance_to_pixel  # noqa: E402  # needs the path

mpl.use("Agg")
WIDTH, HEIGHT = 1160, 1440  # of the window that shows a report
DIRECTORY = Path(tempfile.gettempdir()) / "margins"  # its name is in the pictures
ORDER, PIXEL, THRESHOLD = 4, 1430, 1800
BLUE, ORANGE, LIGHT_ORANGE = "#1f5fa8", "#d9541e", "#fbe3d6"


def run_workflow(*words: str) -> None:
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, "-s", ROOT / "Snakefile", "--directory", DIRECTORY, "--cores", "2"]
    subprocess.run([*command, *words], check="audit" not in words)  # one of an unsafe margin fails


def save(picture: Path, name: str) -> None:
    image = Image.open(picture).convert("RGB")
    size = WIDTH, image.height * WIDTH // image.width
    image.resize(size, Image.Resampling.LANCZOS).quantize(128).save(
        ROOT / "docs" / name, optimize=True
    )


def draw_margin(catalog: Path, margin: Path, picture: Path) -> None:
    """Draw a pixel at the equator, where right ascension and declination have the same scale."""
    from matplotlib import pyplot

    path = f"Norder={ORDER}/Dir=0/Npix={PIXEL}.parquet"
    rows = {
        "other rows": (pd.concat(map(pd.read_parquet, catalog.rglob("Npix=*"))), "0.72", 9),
        "rows of the pixel": (pd.read_parquet(catalog / path), BLUE, 12),
        "rows of its margin": (pd.read_parquet(margin / path), ORANGE, 30),
    }
    figure, axes = pyplot.subplots(figsize=(7.2, 6.2), layout="constrained")
    ra, dec = np.meshgrid(np.linspace(77.3, 85.8, 500), np.linspace(-3.8, 3.8, 500))
    distance = distance_to_pixel(ra.ravel(), dec.ravel(), ORDER, PIXEL).reshape(ra.shape)
    axes.contourf(ra, dec, distance, levels=[0, THRESHOLD], colors=[LIGHT_ORANGE])
    for pixel in (*healpy.get_all_neighbours(2**ORDER, PIXEL, nest=True), PIXEL):
        vectors = healpy.boundaries(2**ORDER, pixel, step=32, nest=True).T
        outline = np.transpose(healpy.vec2ang(vectors, lonlat=True))
        face, edge = ("white", BLUE) if pixel == PIXEL else ("none", "0.5")
        axes.fill(*outline.T, facecolor=face, edgecolor=edge, linewidth=1.5)
    for label, (stars, colour, size) in rows.items():
        axes.scatter(stars["ra"], stars["dec"], s=size, color=colour, zorder=2, label=label)
    axes.set(xlim=(85.8, 77.3), ylim=(-3.8, 3.8), xlabel="ra (deg)", ylabel="dec (deg)")
    axes.set_aspect("equal")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(picture, dpi=200)


def draw_pictures(browser: str) -> None:
    shutil.copytree(ROOT / "demo/hipparcos", DIRECTORY / "hipparcos")
    shutil.copytree(ROOT / "tests/data/hipscat_import/sky", DIRECTORY / "sky")
    shutil.copytree(ROOT / "tests/data/hipscat_import/margin", DIRECTORY / "results/sky_600arcs")
    hipparcos = ["--config", "input_catalog_path=hipparcos", "margin_threshold=1800"]
    run_workflow(*hipparcos)
    run_workflow("audit", *hipparcos)
    run_workflow("report", *hipparcos)
    run_workflow(
        "audit", "--config", "input_catalog_path=sky", "audit_catalog_path=results/sky_600arcs"
    )
    report, picture = DIRECTORY / "results/hipparcos_1800arcs_report", DIRECTORY / "margin.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    window = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={DIRECTORY}/page.png"]
    profile = f"--user-data-dir={DIRECTORY}/profile"
    page = (report / "index.html").as_uri()
    subprocess.run([browser, *options, *window, profile, page], check=True)
    draw_margin(DIRECTORY / "hipparcos", report.with_name("hipparcos_1800arcs"), picture)
    save(picture, "margin.png")
    save(DIRECTORY / "page.png", "report.png")
    save(DIRECTORY / "results/sky_600arcs_audit/audit.png", "audit.png")


if __name__ == "__main__":
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        sys.exit("error: chromium is not installed; it is a package of Debian")
    DIRECTORY.mkdir()
    try:
        draw_pictures(found)
    finally:
        shutil.rmtree(DIRECTORY)
