"""The HiPSCat format: reading what a catalog says about itself, writing a margin's metadata."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog.model import CatalogInfo, MarginSummary
from margin_cache.catalog.spec import CATALOG_INFO, pixel_dir
from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import check_ordinary, read_json, write_json

PIXEL_COLUMNS = {"Norder": pa.uint8(), "Dir": pa.uint64(), "Npix": pa.uint64()}
"""Columns of a HiPSCat file that name the pixel that it is for, with the types hipscat gives."""


def read_info(path: str) -> CatalogInfo:
    """Read what a HiPSCat catalog says about itself.

    Args:
        path: directory of the catalog, which has a catalog_info.json.

    Raises:
        MarginCacheError: the file is damaged, or the catalog not one of objects or sources.
    """
    where = f"input_catalog_path: {path}"
    check_ordinary(Path(path, CATALOG_INFO))
    try:
        info = json.loads(Path(path, CATALOG_INFO).read_text(encoding="utf-8"))
        catalog_type, name = info["catalog_type"], info["catalog_name"]
    except (ValueError, KeyError, TypeError, OSError):
        raise MarginCacheError(
            f"{where}: its {CATALOG_INFO} is damaged or lacks catalog_name or catalog_type"
        ) from None
    if catalog_type not in ("object", "source"):
        raise MarginCacheError(
            f"{where}: is a catalog of type {catalog_type}; a margin is made from one of type "
            "object or source"
        )
    for key in ("catalog_name", "ra_column", "dec_column"):
        if not info.get(key) or not isinstance(info[key], str):
            raise MarginCacheError(f"{where}: its {CATALOG_INFO} does not give {key} as text")
    return CatalogInfo(
        format="hipscat",
        path=path,
        name=name,
        epoch=info.get("epoch"),
        ra_column=info["ra_column"],
        dec_column=info["dec_column"],
        index_column="_hipscat_index",
        index_order=19,
        index_shift=22,
    )


def says_it_is_a_margin(path: Path) -> bool:
    """Tell whether a directory has the description of a HiPSCat margin."""
    info = read_json(path / CATALOG_INFO)
    return isinstance(info, dict) and info.get("catalog_type") == "margin"


def stated_rows(info: CatalogInfo) -> tuple[str, int] | None:
    """Return the key of the number of rows that a catalog says it has, and the number.

    Raises:
        MarginCacheError: it is no number.
    """
    rows = (read_json(Path(info.path, CATALOG_INFO)) or {}).get("total_rows")
    if rows is None:
        return None
    if type(rows) is not int:
        raise MarginCacheError(
            f"input_catalog_path: {info.path}: total_rows in its {CATALOG_INFO} is {rows!r}, not a "
            "whole number; correct or remove it"
        )
    return f"total_rows in its {CATALOG_INFO}", rows


def margin_schema(primary: pa.Schema, source: Path) -> pa.Schema:
    """Return the schema of a margin: the primary's, then the pixel that each row comes from.

    The pandas metadata, where there is any, tells of the new columns as well.

    Args:
        primary: schema of the primary, with its metadata.
        source: the file that it is from.

    Raises:
        MarginCacheError: the primary has such columns itself, pixels that are neither whole
            numbers nor text, or damaged metadata of pandas.
    """
    for name in PIXEL_COLUMNS:
        if name in primary.names and not _holds_pixels(primary.field(name).type):
            raise MarginCacheError(
                f"{source}: the column {name} has the type {primary.field(name).type}, and its "
                "values in a margin are whole numbers; write the catalog with such ones"
            )
    taken = [f"margin_{name}" for name in PIXEL_COLUMNS if f"margin_{name}" in primary.names]
    if taken:
        raise MarginCacheError(
            f"input_catalog_path: the catalog has a column {taken[0]}, which only margins have; "
            "give the catalog itself"
        )
    schema = primary
    for name, arrow_type in PIXEL_COLUMNS.items():
        schema = schema.append(pa.field(f"margin_{name}", arrow_type))
    metadata = dict(schema.metadata or {})
    if b"pandas" in metadata:
        try:
            pandas = json.dumps(_with_pandas_columns(json.loads(metadata[b"pandas"])))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise MarginCacheError(
                f"{source}: what its columns say to pandas is damaged; write the catalog's files "
                "again, with or without that"
            ) from None
        metadata[b"pandas"] = pandas.encode()
    return schema.with_metadata(metadata or None)


def _holds_pixels(arrow_type: pa.DataType) -> bool:
    """Tell whether numbers of pixels can be values of a type, as numbers or as text."""
    if pa.types.is_dictionary(arrow_type):
        return _holds_pixels(arrow_type.value_type)
    return any(
        is_right(arrow_type)
        for is_right in (
            *(pa.types.is_integer, pa.types.is_string),
            *(pa.types.is_large_string, pa.types.is_string_view),
        )
    )


def _with_pandas_columns(pandas: dict[str, Any]) -> dict[str, Any]:
    added = [
        {
            "name": f"margin_{name}",
            "field_name": f"margin_{name}",
            "pandas_type": str(arrow_type),
            "numpy_type": str(arrow_type),
            "metadata": None,
        }
        for name, arrow_type in PIXEL_COLUMNS.items()
    ]
    index = set(pandas.get("index_columns") or []) if _are_names(pandas) else set()
    columns = pandas.get("columns", [])
    # pandas lists the index after the columns.
    others = [column for column in columns if column.get("field_name") not in index]
    return {**pandas, "columns": others + added + columns[len(others) :]}


def _are_names(pandas: dict[str, Any]) -> bool:
    return all(isinstance(name, str) for name in pandas.get("index_columns") or [])


def pixel_columns(
    orders: NDArray[np.int64],
    pixels: NDArray[np.int64],
    source_orders: NDArray[np.int64],
    source_pixels: NDArray[np.int64],
) -> dict[str, NDArray[np.int64]]:
    """Return the columns that name the pixels of rows: of their file and of their source.

    Args:
        orders: orders of the pixels whose files the rows are for, shape (n,).
        pixels: their nested numbers, shape (n,).
        source_orders: orders of the partitions that the rows come from, shape (n,).
        source_pixels: their nested numbers, shape (n,).

    Returns:
        Arrays of shape (n,), by the names of their columns.
    """
    return {
        "Norder": orders,
        "Dir": pixel_dir(pixels),
        "Npix": pixels,
        "margin_Norder": source_orders,
        "margin_Dir": pixel_dir(source_pixels),
        "margin_Npix": source_pixels,
    }


def check_hats_keys(info: CatalogInfo, given: Iterable[str]) -> None:
    """Check that no key is given that is for HATS margins.

    Raises:
        MarginCacheError: one is.
    """
    for key in given:
        raise MarginCacheError(
            f"{key}: is for margins of HATS catalogs, and {info.path} is a HiPSCat one; leave it "
            "out"
        )


def additional_properties(given: Mapping[str, Any]) -> dict[str, str]:
    """Return no properties, which only HATS margins have."""
    return {}


def footer_path(info: CatalogInfo, path: str) -> str:
    """Return how `_metadata` names a file of the catalog: with a slash in front, as in hipscat."""
    return f"/{path}"


def write_description(directory: Path, summary: MarginSummary) -> tuple[dict[str, Any], list[str]]:
    """Write what a margin says about itself into the directory of its files.

    Returns:
        What it says, in the order of hipscat, and the names of the files written.
    """
    description = {
        "catalog_name": summary.output_dir.name,
        "catalog_type": "margin",
        "total_rows": summary.rows,
        "epoch": summary.primary.epoch,
        "ra_column": summary.primary.ra_column,
        "dec_column": summary.primary.dec_column,
        "primary_catalog": summary.primary.location,
        "margin_threshold": summary.threshold,
    }
    write_json(directory / CATALOG_INFO, description)
    return description, [CATALOG_INFO]


def partition_list(pixels: Iterable[tuple[int, int]]) -> str:
    """Return the content of partition_info.csv for pixels as pairs of order and number."""
    lines = [f"{order},{pixel},{pixel_dir(pixel)}" for order, pixel in pixels]
    return "\n".join(["Norder,Npix,Dir", *lines, ""])


def format_version() -> str:
    """Return the version of hipscat, whose format this is."""
    # Only the main process asks, and jobs would start later for it.
    from importlib.metadata import version

    return version("hipscat")


def collection_of(info: CatalogInfo, output_dir: Path) -> Path | None:
    return None


def is_registered(info: CatalogInfo, output_dir: Path) -> bool:
    """Tell whether all that shall list a margin does: in HiPSCat nothing lists margins."""
    return True


def register(info: CatalogInfo, output_dir: Path, size: int | None = None) -> None:
    """Do nothing: in HiPSCat nothing lists margins."""
