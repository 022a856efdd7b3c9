"""Whether two checkouts of this workflow make the same margins, to the byte.

Each makes the margins of the demo (both formats), of the survey sky and of the border sky, or of
those of these two that are named, with its own code and, if it has one, its own .venv. Compared are
the SHA-256 of all files but provenance, and of properties without the lines that name the version
and the creation date. The exit code is 1 if any differs.

    python benchmarks/same_bytes.py OTHER_CHECKOUT
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THRESHOLDS = {"survey": 10, "border": 10}
"""Of the margins of skies that benchmarks/skies.py makes, in arcsec."""
PROPERTIES = {"hats.properties", "properties"}
OWN_LINES = re.compile(rb"^hats_(?:builder|creation_date)=.*\n", re.MULTILINE)


def digests(margin: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a margin, by its path."""
    found = {}
    for path in sorted(margin.rglob("*")):
        if path.is_file() and path.name != "provenance_info.json":
            content = path.read_bytes()
            if path.name in PROPERTIES:
                content = OWN_LINES.sub(b"", content)
            found[path.relative_to(margin).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def make_margin(checkout: Path, catalog: Path, threshold: float, directory: Path) -> Path:
    """Make a margin with a checkout; return its directory."""
    own = checkout / ".venv/bin/python"
    command = [own if own.exists() else sys.executable, "-m", "snakemake", "--cores", "2"]
    command += ["-s", checkout / "Snakefile", "-d", directory, "--config"]
    command += [f"input_catalog_path={catalog}", f"margin_threshold={threshold}"]
    command += ["output_artifact_name=margin"]
    directory.mkdir(parents=True)
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if ended.returncode:
        sys.exit(ended.stdout + ended.stderr)
    return directory / "results/margin"


def main() -> int:
    """Compare this checkout with the one that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="another checkout of this workflow")
    parser.add_argument("--skies", nargs="*", choices=THRESHOLDS, default=list(THRESHOLDS))
    arguments = parser.parse_args()
    other = arguments.checkout.resolve()
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        skies = Path(name, "skies")
        for sky in arguments.skies:
            make_sky = [sys.executable, ROOT / "benchmarks/skies.py", sky, skies]
            subprocess.run(make_sky, check=True, stdout=subprocess.DEVNULL)
        for catalog, threshold in (
            (ROOT / "demo/hipparcos", 5),
            (ROOT / "demo/hipparcos_hats", 5),
            *((skies / sky, THRESHOLDS[sky]) for sky in arguments.skies),
        ):
            ours, theirs = (
                digests(make_margin(checkout, catalog, threshold, Path(name, which, catalog.name)))
                for which, checkout in (("ours", ROOT), ("theirs", other))
            )
            unequal = sorted(
                path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path)
            )
            differing += len(unequal)
            all_files = hashlib.sha256(repr(sorted(ours.items())).encode()).hexdigest()
            print(
                f"{catalog.name}, {threshold} arcsec: {len(ours)} files, {len(unequal)} differ"
                f"{': ' + ', '.join(unequal[:5]) if unequal else ''}; sha256 of all {all_files}"
            )
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
