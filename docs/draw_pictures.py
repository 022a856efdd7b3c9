"""Draw the pictures in README.md: a partition, the beginning of a report, and an audit."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 1160, 1440  # of the window that shows a report
DIRECTORY = Path(tempfile.gettempdir()) / "margins"  # its name is in the pictures


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
    report = DIRECTORY / "results/hipparcos_1800arcs_report"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    window = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={DIRECTORY}/page.png"]
    profile = f"--user-data-dir={DIRECTORY}/profile"
    page = (report / "index.html").as_uri()
    subprocess.run([browser, *options, *window, profile, page], check=True)
    save(report / "partition.png", "margin.png")
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
