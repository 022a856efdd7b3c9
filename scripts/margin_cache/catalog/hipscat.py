"""The HiPSCat format: reading descriptions of catalogs, writing those of margins."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from margin_cache.catalog import spec
from margin_cache.catalog.model import CatalogInfo, MarginSummary, check_type
from margin_cache.catalog.spec import HipscatIndex, HipscatKey, pixel_dir
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints, Pixel
from margin_cache.storage.catalog_files import CatalogFiles
from margin_cache.storage.files import write_json

PIXEL_COLUMNS = {spec.NORDER: pa.uint8(), spec.DIR: pa.uint64(), spec.NPIX: pa.uint64()}
"""Columns with the pixel of a row, with the types that hipscat writes."""

_SOURCE_COLUMNS = {f"margin_{name}": arrow_type for name, arrow_type in PIXEL_COLUMNS.items()}
"""Columns of a margin with the pixel that a row is from."""


def read_info(files: CatalogFiles) -> CatalogInfo:
    where = f"input_catalog_path: {files.location}"
    info: Any = None
    with suppress(ValueError, OSError):
        info = json.loads(files.read(spec.CATALOG_INFO).decode("utf-8-sig"))
    for key in (HipscatKey.TYPE, HipscatKey.NAME, HipscatKey.RA, HipscatKey.DEC):
        if not (isinstance(info, dict) and isinstance(info.get(key), str) and info[key]):
            raise MarginCacheError(
                f"{where}: its {spec.CATALOG_INFO} is damaged, or does not give {key} as text"
            )
        if key == HipscatKey.TYPE:
            check_type(where, info[key])
    return CatalogInfo(
        format="hipscat",
        path=files.location,
        name=info[HipscatKey.NAME],
        epoch=info.get(HipscatKey.EPOCH),
        ra_column=info[HipscatKey.RA],
        dec_column=info[HipscatKey.DEC],
        index_column=HipscatIndex.COLUMN,
        index_order=HipscatIndex.ORDER,
        index_shift=HipscatIndex.COUNTER_BITS,
    )


def is_margin(descriptions: Mapping[str, bytes]) -> bool:
    try:
        info = json.loads(descriptions.get(spec.CATALOG_INFO, b""))
    except ValueError:
        return False
    return isinstance(info, dict) and info.get(HipscatKey.TYPE) == spec.MARGIN_TYPE


def stated_rows(info: CatalogInfo) -> tuple[str, object]:
    """Return where the description states the number of rows, and what it states, perhaps None."""
    description = json.loads(info.files.read(spec.CATALOG_INFO).decode("utf-8-sig"))
    return f"{HipscatKey.ROWS} in its {spec.CATALOG_INFO}", description.get(HipscatKey.ROWS)


def margin_schema(primary: pa.Schema, source: str) -> pa.Schema:
    """Append the columns that name the pixel that a row is from, also to the pandas metadata."""
    schema = primary
    for name, arrow_type in _SOURCE_COLUMNS.items():
        if name in primary.names:
            raise MarginCacheError(
                f"input_catalog_path: the catalog has a column {name}, as only margins have. Give "
                "the primary catalog."
            )
        schema = schema.append(pa.field(name, arrow_type))
    metadata = dict(schema.metadata or {})
    if b"pandas" in metadata:
        try:
            pandas = json.dumps(_with_source_columns(json.loads(metadata[b"pandas"])))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise MarginCacheError(
                f"{source}: its pandas metadata are damaged. Write the catalog's files again, with "
                "valid pandas metadata or with none."
            ) from None
        metadata[b"pandas"] = pandas.encode()
    return schema.with_metadata(metadata or None)


def _with_source_columns(pandas: dict[str, Any]) -> dict[str, Any]:
    added = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": str(arrow_type),
            "numpy_type": str(arrow_type),
            "metadata": None,
        }
        for name, arrow_type in _SOURCE_COLUMNS.items()
    ]
    names = pandas.get("index_columns") or []
    # An index that is a range is described by an object, and has no column.
    index = set(names) if all(isinstance(name, str) for name in names) else set()
    columns = pandas.get("columns", [])
    # pandas lists the index after the columns.
    others = [column for column in columns if column.get("field_name") not in index]
    return {**pandas, "columns": others + added + columns[len(others) :]}


def pixel_columns(pixels: tuple[Ints, Ints], sources: tuple[Ints, Ints]) -> dict[str, Ints]:
    """Return columns with the pixels whose margins rows are in, and those they are from."""
    values = [
        column
        for orders, numbers in (pixels, sources)
        for column in (orders, pixel_dir(numbers), numbers)
    ]
    return dict(zip((*PIXEL_COLUMNS, *_SOURCE_COLUMNS), values, strict=True))


def write_description(directory: Path, summary: MarginSummary) -> tuple[dict[str, Any], list[str]]:
    """Write the description of a margin; return it, and the names of its files."""
    # The keys are in the order of hipscat.
    description = {
        HipscatKey.NAME: summary.output_dir.name,
        HipscatKey.TYPE: spec.MARGIN_TYPE,
        HipscatKey.ROWS: summary.rows,
        HipscatKey.EPOCH: summary.primary.epoch,
        HipscatKey.RA: summary.primary.ra_column,
        HipscatKey.DEC: summary.primary.dec_column,
        HipscatKey.PRIMARY: summary.primary.path,
        HipscatKey.THRESHOLD: summary.threshold,
    }
    write_json(directory / spec.CATALOG_INFO, description)
    return description, [spec.CATALOG_INFO]


def partition_list(pixels: Iterable[Pixel]) -> str:
    lines = [f"{order},{number},{pixel_dir(number)}" for order, number in pixels]
    return "\n".join([f"{spec.NORDER},{spec.NPIX},{spec.DIR}", *lines, ""])


def format_version() -> str:
    # Slow to import.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hipscat")  # the format has none
    except PackageNotFoundError:  # as in the environment of jobs
        return "unknown"
