"""The optional files of a HATS margin, which hats makes in a process of its own.

hats takes seconds and hundreds of MB to import, and needs pandas, which jobs do not load.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from margin_cache.errors import MarginCacheError

OPTIONAL_FILES = {
    "create_thumbnail": "data_thumbnail.parquet",
    "create_per_partition_stats": "per_partition_statistics.parquet",
    "create_partition_info_png": "partition_info.png",
    "create_summary_html": "index.html",
    "create_summary_md": "README.md",
}
"""The file that each key of the configuration asks for."""

WITHOUT_ROWS = ("create_summary_html", "create_summary_md")
"""Keys of files that hats makes for a margin without rows too."""


def make_optional_files(margin: Path, name: str, keys: Sequence[str]) -> list[str]:
    """Make the files that keys ask for in the directory of a margin, and return their names.

    The directory may not have the name of the margin yet.
    """
    if not keys:
        return []
    scripts = str(Path(__file__).parents[2])
    child = subprocess.run(
        [sys.executable, "-m", __name__, str(margin), name, *keys],
        env={**os.environ, "PYTHONPATH": scripts},
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.returncode:
        reason = child.stdout.strip() or f"its process ended with {child.returncode}"
        raise MarginCacheError(
            f"{keys[0]}: hats cannot make the files of {', '.join(keys)} of this margin "
            f"({reason}). Remove the keys."
        )
    return [OPTIONAL_FILES[key] for key in keys]


def _make(margin: Path, name: str, keys: Sequence[str]) -> None:
    import matplotlib
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.io.summary_file import write_catalog_summary_file, write_partition_info_png

    matplotlib.use("Agg")
    with TemporaryDirectory(prefix=".", dir=margin) as directory:
        output = Path(directory)
        named = output / name  # the title of a summary is the name of its directory
        named.symlink_to(margin.absolute())
        if "create_thumbnail" in keys or "create_per_partition_stats" in keys:
            # Not into the margin: hats writes _common_metadata as well, which it has already.
            write_parquet_metadata(
                margin,
                output_path=output,
                create_metadata=False,
                create_thumbnail="create_thumbnail" in keys,
                create_per_partition_stats="create_per_partition_stats" in keys,
            )
        if "create_partition_info_png" in keys:
            write_partition_info_png(margin)
        if "create_summary_html" in keys:
            write_catalog_summary_file(named, fmt="html", output_dir=output)
        if "create_summary_md" in keys:
            write_catalog_summary_file(named, fmt="markdown", output_dir=output)
        for file in map(OPTIONAL_FILES.__getitem__, keys):
            if (output / file).exists():
                (output / file).replace(margin / file)


if __name__ == "__main__":
    try:
        _make(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    except Exception as error:  # hats and its dependencies raise errors of any kind
        print(type(error).__name__, *str(error).splitlines()[:1])
        sys.exit(1)
