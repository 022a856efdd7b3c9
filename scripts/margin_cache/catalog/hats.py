"""The HATS format: descriptions of catalogs, margins and collections; files that hats makes."""

import os
import posixpath
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from margin_cache import __version__
from margin_cache.catalog import spec
from margin_cache.catalog.model import CatalogInfo, MarginSummary, check_type
from margin_cache.catalog.spec import HatsKey
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import MAX_ORDER, Ints, Pixel
from margin_cache.storage.catalog_files import CatalogFiles
from margin_cache.storage.files import atomic_path
from margin_cache.storage.urls import absolute_location, is_url, join_url

_HATS_VERSION = {HatsKey.RELEASE_DATE: "2025-08-22", HatsKey.VERSION: "v1.0"}
"""Version of the specification that margins are written in."""

_REQUIRED_BY_HATS = (HatsKey.NAME, HatsKey.PRIMARY, HatsKey.THRESHOLD)
"""Properties that hats requires before it validates ``addl_hats_properties``."""


def parse_properties(content: bytes, name: str) -> dict[str, str]:
    # Imported here, because map and reduce jobs start faster without it.
    import javaproperties

    try:
        values = javaproperties.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise MarginCacheError(f"{name}: cannot be read as properties: {error}") from None
    return {key: value.strip() for key, value in values.items()}


def primary_of(collection: str) -> str:
    """Return the directory or the URL of the primary table of a collection on disk."""
    found = read_collection(Path(collection))
    if found is None:
        raise MarginCacheError(f"{Path(collection, spec.COLLECTION_PROPERTIES)}: no such file")
    return found.primary


def read_info(files: CatalogFiles) -> CatalogInfo:
    where = f"input_catalog_path: {files.location}"
    source, values = _read_info(files)
    for key in (HatsKey.NAME, HatsKey.TYPE, HatsKey.RA, HatsKey.DEC):
        if not values.get(key):
            raise MarginCacheError(f"{where}: its {source} is damaged or lacks {key}")
        if key == HatsKey.TYPE:
            check_type(where, values[key])
    order = values.get(HatsKey.INDEX_ORDER) or str(MAX_ORDER)
    if not re.fullmatch("[0-9]{1,2}", order) or int(order) > MAX_ORDER:
        raise MarginCacheError(f"{where}: {HatsKey.INDEX_ORDER} in its {source} is {order}")
    return CatalogInfo(
        format="hats",
        path=files.location,
        name=values[HatsKey.NAME],
        epoch=None,
        ra_column=values[HatsKey.RA],
        dec_column=values[HatsKey.DEC],
        index_column=values.get(HatsKey.INDEX) or None,
        index_order=int(order),
        index_shift=0,
        dataset=spec.DATASET,
        npix_suffix=values.get(HatsKey.NPIX_SUFFIX) or spec.PARQUET_SUFFIX,
    )


def is_margin(descriptions: Mapping[str, bytes]) -> bool:
    for name in spec.PROPERTIES:
        with suppress(MarginCacheError):
            properties = parse_properties(descriptions.get(name, b""), name)
            if properties.get(HatsKey.TYPE) == spec.MARGIN_TYPE:
                return True
    return False


def _read_info(files: CatalogFiles) -> tuple[str, dict[str, str]]:
    """Return the name and the values of the file that describes a catalog."""
    source = next(name for name in spec.PROPERTIES if files.exists(name))
    return source, parse_properties(files.read(source), files.name(source))


def stated_rows(info: CatalogInfo) -> tuple[str, object]:
    source, values = _read_info(info.files)
    return f"{HatsKey.ROWS} in its {source}", values.get(HatsKey.ROWS) or None


def margin_schema(primary: pa.Schema, source: str) -> pa.Schema:
    return primary


def pixel_columns(pixels: tuple[Ints, Ints], sources: tuple[Ints, Ints]) -> dict[str, Ints]:
    return {}  # rows of a HATS margin do not name pixels


def additional_properties(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines that ``addl_hats_properties`` adds, written as hats writes them."""
    if not values:
        return {}
    # Slow to import, and nothing else needs it.
    from hats.catalog.dataset.table_properties import TableProperties

    aliases = {name: field.alias or name for name, field in TableProperties.model_fields.items()}
    properties = {aliases.get(name, name): value for name, value in values.items()}
    for name in values:
        if aliases.get(name, name) in vars(HatsKey).values():
            raise MarginCacheError(
                f"addl_hats_properties: the workflow writes {name} itself. Remove it."
            )
    try:
        required: dict[str, Any] = dict.fromkeys(_REQUIRED_BY_HATS, "1")
        table = TableProperties(**{HatsKey.TYPE: spec.MARGIN_TYPE}, **required, **properties)
    except ValueError as error:
        *_, key, reason = ["", *str(error).splitlines()[1:3]]
        raise MarginCacheError(f"addl_hats_properties: {key}: {reason.strip()}") from None
    written = table.model_dump(by_alias=True, exclude_none=True)
    return {name: str(written[name]) for name in properties if name in written}


def write_description(directory: Path, summary: MarginSummary) -> tuple[dict[str, str], list[str]]:
    info = summary.primary
    index = {}
    if info.index_column is not None:
        index[HatsKey.INDEX] = info.index_column
        index[HatsKey.INDEX_ORDER] = str(info.index_order)
    description = {
        **summary.properties,
        HatsKey.NAME: summary.output_dir.name,
        HatsKey.TYPE: spec.MARGIN_TYPE,
        HatsKey.ROWS: str(summary.rows),
        HatsKey.RA: info.ra_column,
        HatsKey.DEC: info.dec_column,
        **index,
        HatsKey.PRIMARY: info.path,
        HatsKey.THRESHOLD: str(summary.threshold),
        HatsKey.NPIX_SUFFIX: summary.npix_suffix,
        HatsKey.ORDER: str(summary.order),
        HatsKey.SKY_FRACTION: f"{summary.sky_fraction:.5f}",
        HatsKey.BUILDER: f"snakemake-margin-cache v{__version__}",
        HatsKey.CREATION_DATE: datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        HatsKey.SIZE: str(summary.size // 1024),
        **_HATS_VERSION,
    }
    # Slow to import, and nothing else needs it.
    from jproperties import Properties

    written = Properties(process_escapes_in_values=False)
    written.properties = description
    for name in spec.PROPERTIES:
        with atomic_path(directory / name) as temporary, temporary.open("wb") as file:
            written.store(file, initial_comments="HATS catalog", encoding="utf-8", timestamp=False)
    return description, list(spec.PROPERTIES)


def partition_list(pixels: Iterable[Pixel]) -> str:
    lines = [f"{order},{number}" for order, number in pixels]
    return "\n".join([f"{spec.NORDER},{spec.NPIX}", *lines, ""])


def format_version() -> str:
    return _HATS_VERSION[HatsKey.VERSION]


@dataclass(frozen=True)
class Collection:
    """The content of the properties of a collection; members may have absolute paths or URLs."""

    location: str
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()  # not as text files are read, which would change "\r\n"

    @property
    def file(self) -> str:
        return join_url(self.location, spec.COLLECTION_PROPERTIES)

    @cached_property
    def _values(self) -> dict[str, str]:
        return parse_properties(self.content, self.file)

    @property
    def primary(self) -> str:
        try:
            return self._location_of(self._values[HatsKey.PRIMARY])
        except KeyError:
            raise MarginCacheError(f"{self.file}: lacks {HatsKey.PRIMARY}") from None

    def is_of(self, info: CatalogInfo) -> bool:
        return absolute_location(self.primary) == absolute_location(info.path)

    def lists(self, margin: str) -> bool:
        return absolute_location(margin) in map(self._absolute, self._margins)

    def has_default(self, margin: str) -> bool:
        default = self._values.get(HatsKey.DEFAULT_MARGIN) or ""
        return bool(default) and self._absolute(default) == absolute_location(margin)

    @property
    def _margins(self) -> list[str]:
        return self._values.get(HatsKey.MARGINS, "").replace(",", " ").replace(";", " ").split()

    def _location_of(self, member: str) -> str:
        path = member.removeprefix("file://")
        if is_url(path):
            return path.rstrip("/")
        if is_url(self.location):
            return join_url(self.location, posixpath.normpath(path))
        return str(Path(self.location, path))

    def _absolute(self, member: str) -> str:
        return absolute_location(self._location_of(member))

    def margin(self, name: str = "") -> str | None:
        """Return the directory or URL of a margin of this name, or of the default margin."""
        name = name or self._values.get(HatsKey.DEFAULT_MARGIN, "")
        members = {Path(member).name: member for member in self._margins}
        members |= {member: member for member in self._margins}
        return self._location_of(members[name]) if name and name in members else None

    def with_margin(self, margin: str, may_be_default: bool) -> str:
        """Return the properties with a margin, which may become the default if there is none."""
        if self.lists(margin):
            return self.text
        name = margin.rpartition("/")[2]
        changed = {HatsKey.MARGINS: " ".join(dict.fromkeys([*self._margins, name]))}
        if may_be_default and not self._values.get(HatsKey.DEFAULT_MARGIN):
            changed[HatsKey.DEFAULT_MARGIN] = name
        return _with_values(self.text, changed)


def read_collection(directory: Path) -> Collection | None:
    path = directory / spec.COLLECTION_PROPERTIES
    try:
        return Collection(str(directory), path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MarginCacheError(f"{path}: cannot be read as properties: {error}") from None


def _with_values(text: str, values: Mapping[str, str]) -> str:
    """Replace or append values in the text of a properties file; all else stays as it is."""
    from javaproperties import PropertiesFile

    mark = "\ufeff" if text.startswith("\ufeff") else ""  # a byte-order mark
    properties = PropertiesFile.loads(text.removeprefix(mark))
    properties.update(values)
    edited = mark + properties.dumps(separator="=")
    return re.sub(r"\r?\n", "\r\n", edited) if "\r\n" in text else edited


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
    """Make the files that keys ask for in a directory that becomes a margin; return their names.

    hats makes them in a process of its own: it takes seconds and hundreds of MB to import.
    """
    if not keys:
        return []
    import subprocess  # slow to import

    child = subprocess.run(
        [sys.executable, "-m", __name__, str(margin), name, *keys],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
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


def _make_with_hats(margin: Path, name: str, keys: Sequence[str]) -> None:
    from tempfile import TemporaryDirectory

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
        _make_with_hats(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    except Exception as error:  # hats and its dependencies raise errors of any kind
        print(type(error).__name__, *str(error).splitlines()[:1])
        sys.exit(1)
