"""The files of a HATS margin that are made on demand, by hats itself.

hats and what it imports take seconds and some hundred MB to start, so nothing is imported before.
"""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from margin_cache.errors import MarginCacheError

FURTHER_FILES = {
    "create_thumbnail": "data_thumbnail.parquet",
    "create_per_partition_stats": "per_partition_statistics.parquet",
    "create_partition_info_png": "partition_info.png",
    "create_summary_html": "index.html",
    "create_summary_md": "README.md",
}
"""The file that each key asks for."""

_OF_THE_ROWS = ("create_thumbnail", "create_per_partition_stats")


def make_files_of_rows(margin: Path, wanted: Collection[str]) -> list[str]:
    """Make thumbnail and statistics of a margin, which has rows.

    Args:
        margin: its directory, with all its Parquet files.
        wanted: the keys that ask for further files.

    Returns:
        The names of the files made.

    Raises:
        MarginCacheError: hats cannot make one.
    """
    return [
        _made(margin, key, partial(_write_metadata, margin, key))
        for key in _OF_THE_ROWS
        if key in wanted
    ]


def make_descriptions(margin: Path, name: str, wanted: Collection[str]) -> list[str]:
    """Make the picture and the summaries of a margin.

    Args:
        margin: its directory, with all other files.
        name: its name, which the directory may not have yet.
        wanted: the keys that ask for further files.

    Returns:
        The names of the files made.

    Raises:
        MarginCacheError: hats cannot make one.
    """
    makers = {
        "create_partition_info_png": partial(_draw, margin),
        "create_summary_html": partial(_summarize, margin, name, "html"),
        "create_summary_md": partial(_summarize, margin, name, "markdown"),
    }
    return [_made(margin, key, maker) for key, maker in makers.items() if key in wanted]


def _made(margin: Path, key: str, make: Callable[[Path], None]) -> str:
    """Have a file made in a directory of its own, and move it into the margin; return its name."""
    name = FURTHER_FILES[key]
    with TemporaryDirectory(prefix=".", dir=margin) as directory:
        try:
            make(Path(directory))
        except Exception as error:  # of any kind, by hats and what it calls
            reason = (str(error).splitlines() or [""])[0]
            raise MarginCacheError(
                f"{key}: hats cannot make {name} of this margin ({type(error).__name__}: {reason})"
                "; leave the key out"
            ) from None
        Path(directory, name).replace(margin / name)
    return name


def _write_metadata(margin: Path, key: str, made: Path) -> None:
    from hats.io.parquet_metadata import write_parquet_metadata

    # Into another place: it writes _common_metadata as well, which the margin has already.
    write_parquet_metadata(margin, output_path=made, create_metadata=False, **{key: True})


def _draw(margin: Path, made: Path) -> None:
    import matplotlib
    from hats.io.summary_file import write_partition_info_png

    matplotlib.use("Agg")
    # It knows no other place.
    write_partition_info_png(margin)
    name = FURTHER_FILES["create_partition_info_png"]
    (margin / name).replace(made / name)


def _summarize(margin: Path, name: str, form: Literal["html", "markdown"], made: Path) -> None:
    from hats.io.summary_file import write_catalog_summary_file

    shown = made / name
    # The summary has the name of the directory.
    shown.symlink_to(margin.absolute())
    write_catalog_summary_file(shown, fmt=form, output_dir=made)
    shown.unlink()
