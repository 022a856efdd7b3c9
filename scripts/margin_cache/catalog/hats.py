"""The HATS format: reading what a catalog says about itself, writing a margin's metadata."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache import __version__
from margin_cache.catalog.model import CatalogInfo, MarginSummary
from margin_cache.catalog.spec import COLLECTION_PROPERTIES, PROPERTIES
from margin_cache.errors import MarginCacheError
from margin_cache.storage.directories import directory_size
from margin_cache.storage.files import atomic_path, check_ordinary, exclusive_lock, rewrite_text

_HATS_VERSION = {"hats_release_date": "2025-08-22", "hats_version": "v1.0"}
"""The version of the specification that margins are written to."""


_LEAST: dict[str, Any] = {
    "obs_collection": "margin",
    "dataproduct_type": "margin",
    "hats_primary_table_url": "primary",
    "hats_margin_threshold": 1.0,
}
"""Properties that hats asks of each margin."""

_SAID_OF_ITSELF = (
    "obs_collection",
    "dataproduct_type",
    "hats_nrows",
    "hats_col_ra",
    "hats_col_dec",
    "hats_col_healpix",
    "hats_col_healpix_order",
    "hats_primary_table_url",
    "hats_margin_threshold",
    "hats_npix_suffix",
    "hats_order",
    "moc_sky_fraction",
)
"""Properties that follow from what a margin is."""


def read_properties(path: Path) -> dict[str, str]:
    """Return the keys and values of a Java-style properties file.

    Raises:
        MarginCacheError: it cannot be read.
    """
    # Map and reduce jobs have no use for it, and would start later.
    import javaproperties

    check_ordinary(path)
    try:
        values = javaproperties.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MarginCacheError(f"{path}: cannot be read as properties: {error}") from None
    return {key: value.strip() for key, value in values.items()}


def primary_of(collection: str) -> str:
    """Return the directory of the primary table of a collection.

    Raises:
        MarginCacheError: its properties name none.
    """
    path = Path(collection, COLLECTION_PROPERTIES)
    try:
        return str(Path(collection, read_properties(path)["hats_primary_table_url"]))
    except KeyError:
        raise MarginCacheError(f"{path}: lacks hats_primary_table_url") from None


def read_info(path: str) -> CatalogInfo:
    """Read what a HATS catalog says about itself.

    Args:
        path: directory of the catalog, which has one of the files ``PROPERTIES``.

    Raises:
        MarginCacheError: the file is damaged, or the catalog not one of objects or sources.
    """
    where = f"input_catalog_path: {path}"
    source = _info_file(path)
    values = read_properties(Path(path, source))
    for key in ("obs_collection", "dataproduct_type"):
        if not values.get(key):
            raise MarginCacheError(f"{where}: its {source} is damaged or lacks {key}")
    catalog_type = values["dataproduct_type"]
    if catalog_type not in ("object", "source"):
        raise MarginCacheError(
            f"{where}: is a catalog of type {catalog_type}; a margin is made from one of type "
            "object or source"
        )
    for key in ("hats_col_ra", "hats_col_dec"):
        if not values.get(key):
            raise MarginCacheError(f"{where}: its {source} lacks {key}")
    order = values.get("hats_col_healpix_order") or "29"
    if not re.fullmatch("[0-9]{1,2}", order) or int(order) > 29:
        raise MarginCacheError(f"{where}: hats_col_healpix_order in its {source} is {order}")
    return CatalogInfo(
        format="hats",
        path=path,
        name=values["obs_collection"],
        epoch=None,
        ra_column=values["hats_col_ra"],
        dec_column=values["hats_col_dec"],
        index_column=values.get("hats_col_healpix") or None,
        index_order=int(order),
        index_shift=0,
        dataset="dataset",
        npix_suffix=values.get("hats_npix_suffix") or ".parquet",
    )


def says_it_is_a_margin(path: Path) -> bool:
    """Tell whether a directory has the description of a HATS margin."""
    for name in PROPERTIES:
        with suppress(MarginCacheError):
            if read_properties(path / name).get("dataproduct_type") == "margin":
                return True
    return False


def _info_file(path: str) -> str:
    return next(name for name in PROPERTIES if Path(path, name).exists())


def stated_rows(info: CatalogInfo) -> tuple[str, int] | None:
    """Return the key of the number of rows that a catalog says it has, and the number.

    Raises:
        MarginCacheError: it is no number.
    """
    source = _info_file(info.path)
    rows = read_properties(Path(info.path, source)).get("hats_nrows")
    if not rows:
        return None
    if not rows.isascii() or not rows.isdigit():
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: hats_nrows in its {source} is {rows}, not a number; "
            "correct or remove it"
        )
    return f"hats_nrows in its {source}", int(rows)


def margin_schema(primary: pa.Schema, source: Path) -> pa.Schema:
    """Return the schema of a margin: the primary's."""
    return primary


def pixel_columns(
    orders: NDArray[np.int64],
    pixels: NDArray[np.int64],
    source_orders: NDArray[np.int64],
    source_pixels: NDArray[np.int64],
) -> dict[str, NDArray[np.int64]]:
    """Return the columns that name pixels: none, in a HATS margin."""
    return {}


def check_hats_keys(info: CatalogInfo, given: Iterable[str]) -> None:
    """Do nothing: a margin of a HATS catalog may be made with all keys."""


def additional_properties(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines that ``addl_hats_properties`` adds to a margin's properties, as hats does.

    Raises:
        MarginCacheError: hats does not take them, or they would contradict what the margin is.
    """
    if not given:
        return {}
    # Slow to import, and nothing else needs it.
    from hats.catalog.dataset.table_properties import TableProperties

    aliases = {name: key.alias or name for name, key in TableProperties.model_fields.items()}
    lines = {aliases.get(name, name): value for name, value in given.items()}
    for name, value in given.items():
        if not str(value).isprintable() or "\\" in str(value):
            raise MarginCacheError(
                f"addl_hats_properties: the value of {name} has a backslash, an end of a line or "
                "the like, which readers of properties take in different ways; leave it out"
            )
        if not re.fullmatch("[A-Za-z][A-Za-z0-9._-]*", name):
            raise MarginCacheError(
                f'addl_hats_properties: {name} is not a name of letters, digits, ".", "_" and "-" '
                "that begins with a letter"
            )
        if aliases.get(name, name) in _SAID_OF_ITSELF:
            raise MarginCacheError(
                f"addl_hats_properties: {name} is said of the margin by the workflow; leave it out"
            )
    try:
        values = TableProperties(**_LEAST, **lines).model_dump(by_alias=True, exclude_none=True)
    except ValueError as error:
        *_, key, reason = ["", *str(error).splitlines()[1:3]]
        raise MarginCacheError(f"addl_hats_properties: {key}: {reason.strip()}") from None
    return {name: str(values[name]) for name in lines if name in values}


def footer_path(info: CatalogInfo, path: str) -> str:
    """Return how `_metadata` names a file of the catalog: relative to the dataset, as in hats."""
    return path.removeprefix(f"{info.dataset}/")


def write_description(directory: Path, summary: MarginSummary) -> tuple[dict[str, str], list[str]]:
    """Write what a margin says about itself into the directory of its files.

    Returns:
        The properties, and the names of the files written.
    """
    info = summary.primary
    index = (
        {}
        if info.index_column is None
        else {
            "hats_col_healpix": info.index_column,
            "hats_col_healpix_order": str(info.index_order),
        }
    )
    description = {
        "obs_collection": summary.output_dir.name,
        "dataproduct_type": "margin",
        "hats_nrows": str(summary.rows),
        "hats_col_ra": info.ra_column,
        "hats_col_dec": info.dec_column,
        **index,
        "hats_primary_table_url": info.location,
        "hats_margin_threshold": str(summary.threshold),
        "hats_npix_suffix": summary.npix_suffix,
        "hats_order": str(summary.order),
        "moc_sky_fraction": f"{summary.sky_fraction:.5f}",
        "hats_builder": f"snakemake-margin-cache v{__version__}",
        "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        "hats_estsize": str(summary.size // 1024),
        **_HATS_VERSION,
    }
    description = {**summary.properties, **description}
    for name in PROPERTIES:
        _write_properties(directory / name, description, "HATS catalog")
    return description, list(PROPERTIES)


def partition_list(pixels: Iterable[tuple[int, int]]) -> str:
    """Return the content of partition_info.csv for pixels as pairs of order and number."""
    return "\n".join(["Norder,Npix", *(f"{order},{pixel}" for order, pixel in pixels), ""])


def format_version() -> str:
    """Return the version of the specification that margins are written to."""
    return _HATS_VERSION["hats_version"]


def _write_properties(path: Path, values: Mapping[str, Any], comment: str | None) -> None:
    from jproperties import Properties

    properties = Properties(process_escapes_in_values=False)
    for key, value in values.items():
        properties[key] = value
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        properties.store(file, initial_comments=comment, encoding="utf-8", timestamp=False)


def collection_of(info: CatalogInfo, output_dir: Path) -> Path | None:
    """Return the collection that a margin lies in, if it is the one of its primary table."""
    return output_dir.parent if _is_in_collection(info, output_dir) else None


def is_registered(info: CatalogInfo, output_dir: Path) -> bool:
    """Tell whether the collection that a margin lies in lists it.

    True as well if the margin lies in no collection, or in one of another primary table.
    """
    path = output_dir.parent / COLLECTION_PROPERTIES
    return not _is_in_collection(info, output_dir) or output_dir.name in _margins(
        read_properties(path)
    )


def _is_in_collection(info: CatalogInfo, output_dir: Path) -> bool:
    """Tell whether a margin lies in the collection of its primary."""
    collection = output_dir.parent
    return (collection / COLLECTION_PROPERTIES).exists() and (
        Path(primary_of(str(collection))).resolve() == Path(info.path).resolve()
    )


def _margins(values: Mapping[str, str]) -> list[str]:
    return values.get("all_margins", "").replace(",", " ").replace(";", " ").split()


def register(info: CatalogInfo, output_dir: Path, size: int | None = None) -> None:
    """Add a margin to the collection that it lies in, if that is the one of its primary.

    It becomes the default margin if there was none, and the size of the collection is counted
    anew, if it is given there. All other lines stay as they are.

    Args:
        info: the catalog.
        output_dir: directory of the margin.
        size: bytes of all files of the collection but its properties, if that is known.
    """
    path = output_dir.parent / COLLECTION_PROPERTIES
    if not _is_in_collection(info, output_dir):
        return
    # Another process may be finishing a margin of the same collection.
    with exclusive_lock(output_dir.parent):
        values = read_properties(path)
        margins = _margins(values)
        changed = {}
        if output_dir.name not in margins:
            changed["all_margins"] = " ".join(dict.fromkeys([*margins, output_dir.name]))
            if not values.get("default_margin"):
                changed["default_margin"] = output_dir.name
        # Bytes, or Python would turn every end of a line into its own.
        before = path.read_bytes().decode("utf-8")
        after = _with_values(before, changed) if changed else before
        if "hats_estsize" in values:
            if size is None:
                size = directory_size(output_dir.parent) - path.stat().st_size
            kilobytes = str((size + len(after.encode())) // 1024)
            if kilobytes != values["hats_estsize"]:
                after = _with_values(after, {"hats_estsize": kilobytes})
        if after != before:
            rewrite_text(path, after)


def _with_values(text: str, values: Mapping[str, str]) -> str:
    """Return properties with the values of some keys replaced, or added at the end.

    All other lines stay as they are, and so does what ends a line.
    """
    from javaproperties import PropertiesFile

    properties = PropertiesFile.loads(text)
    for key, value in values.items():
        properties[key] = value
    edited = properties.dumps(separator="=")
    return re.sub(r"\r?\n", "\r\n", edited) if "\r\n" in text else edited
