"""The optional files of a HATS margin, which hats makes in a process of its own.

hats takes seconds and hundreds of MB to import, and needs pandas, which jobs do not load.
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
"""The file that each key of the configuration asks for."""

OF_ROWS = ("create_thumbnail", "create_per_partition_stats")
"""Keys of files that hats computes from the Parquet files alone, without ``hats.properties``."""

WITHOUT_ROWS = ("create_summary_html", "create_summary_md")
"""Keys of files that hats makes for a margin without rows too."""


def make_optional_files(margin: Path, name: str, keys: Iterable[str]) -> list[str]:
    """Make files of a margin, and return their names.

    Args:
        margin: directory with the Parquet files and, except for ``OF_ROWS``, the properties.
        name: name of the margin, which the directory may not have yet.
        keys: the keys that ask for the files.
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
                f"{key}: hats cannot make {OPTIONAL_FILES[key]} of this margin ({reason}). Remove "
                "the key."
            )
    return [OPTIONAL_FILES[key] for key in keys]


def _make(margin: Path, name: str, key: str) -> None:
    """Make a file in a temporary directory, and move it into the margin."""
    if key == "create_partition_info_png":
        _draw(margin)
        return
    with TemporaryDirectory(prefix=".", dir=margin) as directory:
        output = Path(directory)
        if key in OF_ROWS:
            _write_metadata(margin, key, output)
        else:
            _summarize(margin, name, "html" if key == "create_summary_html" else "markdown", output)
        (output / OPTIONAL_FILES[key]).replace(margin / OPTIONAL_FILES[key])


def _write_metadata(margin: Path, key: str, output: Path) -> None:
    from hats.io.parquet_metadata import write_parquet_metadata

    # Not into the margin: hats writes _common_metadata as well, which the margin has already.
    wanted = {name: name == key for name in OF_ROWS}
    write_parquet_metadata(margin, output_path=output, create_metadata=False, **wanted)


def _draw(margin: Path) -> None:
    import matplotlib
    from hats.io.summary_file import write_partition_info_png

    matplotlib.use("Agg")
    write_partition_info_png(margin)


def _summarize(margin: Path, name: str, form: Literal["html", "markdown"], output: Path) -> None:
    from hats.io.summary_file import write_catalog_summary_file

    # The title of the summary is the name of the directory.
    named = output / name
    named.symlink_to(margin.absolute())
    write_catalog_summary_file(named, fmt=form, output_dir=output)
    named.unlink()


if __name__ == "__main__":
    try:
        _make(Path(sys.argv[1]), *sys.argv[2:])
    except Exception as error:  # hats and its dependencies raise errors of any kind
        print(type(error).__name__, *str(error).splitlines()[:1])
        sys.exit(1)
