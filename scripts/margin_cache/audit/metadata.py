"""Compares the metadata and the schemas of a margin with its files and with the primary."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.audit.catalogs import INDEX_COLUMNS, AuditedCatalog, columns_of_pixels
from margin_cache.audit.pixels import Pixel

MAX_EXAMPLES = 3  # in a line

_PIXEL_PATH = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)")


def metadata_defects(
    margin: AuditedCatalog, rows: Mapping[Pixel, int], threshold: float
) -> list[str]:
    """Return a line for each error in the margin's metadata.

    Args:
        margin: The margin.
        rows: Number of rows of each listed pixel whose files could be read.
        threshold: Arcsec, for which the margin is checked.
    """
    total = sum(rows.values())
    defects = []
    if margin.rows is not None and margin.rows != total:
        defects.append(f"total_rows is {margin.rows}, but the files have {total} rows")
    if margin.threshold is not None and margin.threshold != threshold:
        defects.append(f"margin_threshold is {margin.threshold:g}, not {threshold:g} arcsec")
    listed = {margin.path(pixel) for pixel in margin.pixels}
    unlisted = set(margin.root.glob("Norder=*/Dir=*/Npix=*")) - listed
    defects += _examples("files that the margin does not list", unlisted)
    return defects + _partition_info_defects(margin, rows) + _footer_defects(margin, rows)


def description_defects(
    primary: AuditedCatalog, margin: AuditedCatalog, schema: pa.Schema
) -> list[str]:
    """Return a line for each error in what the margin's metadata say of its columns."""
    defects = []
    if margin.position_columns != primary.position_columns:
        defects.append(
            f"the coordinates are {' and '.join(margin.position_columns)} in the margin's "
            f"metadata, but {' and '.join(primary.position_columns)} in the primary's"
        )
    indexes = margin.index_column, primary.index_column
    if None not in indexes and margin.index_column != primary.index_column:
        defects.append(
            f"the spatial index is {margin.index_column} in the margin's metadata, but "
            f"{primary.index_column} in the primary's"
        )
    path = margin.root / "_common_metadata"
    if path.exists():
        try:
            lines = schema_defects(schema, pq.read_schema(path))
        except (OSError, ValueError) as error:
            lines = [f"cannot be read: {error}"]
        defects += [f"{path}: {line}" for line in lines]
    return defects


def schema_defects(primary: pa.Schema, margin: pa.Schema) -> list[str]:
    """Return a line for each column in which a file of the margin differs from the primary.

    Columns that name pixels, and the spatial index of the other format, may be present or not.
    """
    optional = columns_of_pixels(primary) | set(INDEX_COLUMNS)
    expected = {field.name: field.type for field in primary if field.name not in optional}
    actual = {field.name: field.type for field in margin if field.name not in optional}
    return [
        *(f"no column {name}" for name in expected if name not in actual),
        *(f"column {name} is not in the primary" for name in actual if name not in expected),
        *(
            f"column {name} is {actual[name]}, not {kind}"
            for name, kind in expected.items()
            if name in actual and actual[name] != kind
        ),
    ]


def _partition_info_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    paths = [directory / "partition_info.csv" for directory in (margin.root, margin.root.parent)]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return []
    try:
        table = pd.read_csv(path)
        pixels = list(zip(table["Norder"].tolist(), table["Npix"].tolist(), strict=True))
    except (OSError, ValueError, KeyError) as error:
        return [f"{path}: cannot be read: {error}"]
    defects = _pixel_defects(path, set(pixels), set(margin.pixels))
    if "num_rows" in table:
        numbers = dict(zip(pixels, map(int, table["num_rows"]), strict=True))
        defects += _row_number_defects(path, numbers, rows)
    return defects


def _footer_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    path = margin.root / "_metadata"
    if not path.exists():
        return []
    try:
        footer = pq.read_metadata(path)
        numbers: Counter[Pixel] = Counter()
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            match = _PIXEL_PATH.search(group.column(0).file_path)
            if match is None:
                raise ValueError(f"{group.column(0).file_path!r} is not the path of a pixel")
            numbers[int(match[1]), int(match[2])] += group.num_rows
    except (OSError, ValueError, KeyError) as error:
        return [f"{path}: cannot be read: {error}"]
    # A file without rows may have no row group, and so be absent from the footers.
    filled = {pixel for pixel in margin.pixels if rows.get(pixel, 1)}
    pixels = {pixel for pixel in numbers if pixel in filled or pixel not in rows}
    return _pixel_defects(path, pixels, filled) + _row_number_defects(path, numbers, rows)


def _pixel_defects(path: Path, pixels: set[Pixel], listed: set[Pixel]) -> list[str]:
    return [
        *_examples(f"pixels only in {path}", pixels - listed),
        *_examples(f"pixels missing from {path}", listed - pixels),
    ]


def _row_number_defects(
    path: Path, numbers: Mapping[Pixel, int], rows: Mapping[Pixel, int]
) -> list[str]:
    wrong = [
        f"{pixel}: {number} instead of {rows[pixel]}"
        for pixel, number in numbers.items()
        if pixel in rows and rows[pixel] != number
    ]
    return _examples(f"numbers of rows in {path} that differ from the files", wrong)


def _examples(subject: str, names: Iterable[object]) -> list[str]:
    texts = sorted(map(str, names))
    shown = ", ".join(texts[:MAX_EXAMPLES]) + ", ..." * (len(texts) > MAX_EXAMPLES)
    return [f"{len(texts)} {subject}: {shown}"] if texts else []
