"""The files of a HATS margin that are made on demand, by hats itself, in a process of their own.

hats and what it imports take seconds and some hundred MB to start, and need pandas, which jobs keep
out.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from margin_cache.errors import MarginCacheError

OPTIONAL_FILES = {
    "create_thumbnail": "data_thumbnail.parquet",
    "create_per_partition_stats": "per_partition_statistics.parquet",
    "create_partition_info_png": "partition_info.png",
    "create_summary_html": "index.html",
    "create_summary_md": "README.md",
}
"""The file that each key asks for."""

OF_ROWS = ("create_thumbnail", "create_per_partition_stats")
"""Keys of files that are made of the rows alone."""

WITHOUT_ROWS = ("create_summary_html", "create_summary_md")
"""Keys of files that a margin without rows has too: of the others hats makes none."""


def make_optional_files(margin: Path, name: str, keys: Iterable[str]) -> list[str]:
    """Make files of a margin.

    Args:
        margin: its directory, with all its Parquet files; for all but ``OF_ROWS`` also with what it
            says of itself.
        name: its name, which the directory may not have yet.
        keys: the keys that ask for the files.

    Returns:
        The names of the files.

    Raises:
        MarginCacheError: hats cannot make one.
    """
    for key in keys:
        command = [sys.executable, "-m", __name__, str(margin), name, key]
        scripts = str(Path(__file__).parents[2])
        child = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": scripts}, stdout=subprocess.PIPE, text=True
        )
        if child.returncode:
            reason = child.stdout.strip() or f"its process ended with {child.returncode}"
            raise MarginCacheError(
                f"{key}: hats cannot make {OPTIONAL_FILES[key]} of this margin ({reason}); leave "
                "the key out"
            )
    return [OPTIONAL_FILES[key] for key in keys]


def _make(margin: Path, name: str, key: str) -> None:
    """Have a file made in a directory of its own, and move it into the margin."""
    with TemporaryDirectory(prefix=".", dir=margin) as directory:
        made = Path(directory)
        if key in OF_ROWS:
            _write_metadata(margin, key, made)
        elif key == "create_partition_info_png":
            _draw(margin, made)
        else:
            _summarize(margin, name, "html" if key == "create_summary_html" else "markdown", made)
        (made / OPTIONAL_FILES[key]).replace(margin / OPTIONAL_FILES[key])


def _write_metadata(margin: Path, key: str, made: Path) -> None:
    from hats.io.parquet_metadata import write_parquet_metadata

    # Into another place: it writes _common_metadata as well, which the margin has already.
    wanted = {each: each == key for each in OF_ROWS}
    write_parquet_metadata(margin, output_path=made, create_metadata=False, **wanted)


def _draw(margin: Path, made: Path) -> None:
    import matplotlib
    from hats.io.summary_file import write_partition_info_png

    matplotlib.use("Agg")
    # It knows no other place.
    write_partition_info_png(margin)
    name = OPTIONAL_FILES["create_partition_info_png"]
    (margin / name).replace(made / name)


def _summarize(margin: Path, name: str, form: Literal["html", "markdown"], made: Path) -> None:
    from hats.io.summary_file import write_catalog_summary_file

    shown = made / name
    # The summary has the name of the directory.
    shown.symlink_to(margin.absolute())
    write_catalog_summary_file(shown, fmt=form, output_dir=made)
    shown.unlink()


if __name__ == "__main__":
    try:
        _make(Path(sys.argv[1]), *sys.argv[2:])
    except Exception as error:  # of any kind, by hats and what it calls
        print(type(error).__name__, *str(error).splitlines()[:1])
        sys.exit(1)
