"""What a margin says of its files, against the files that are there."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.audit.catalogs import INDEXES, AuditedCatalog, of_the_file
from margin_cache.audit.pixels import Pixel

MOST_NAMES = 3  # in a line

_PLACE = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)")


def metadata_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int], limit: float) -> list[str]:
    """Return a line for each thing that the margin's metadata have wrong.

    Args:
        margin: The margin.
        rows: How many rows the files of each pixel have that could be read.
        limit: The threshold that it is checked for, in arcsec.
    """
    total = sum(rows.values())
    defects = []
    if margin.rows is not None and margin.rows != total:
        defects.append(f"total_rows is {margin.rows}, but the files have {total} rows")
    if margin.threshold is not None and margin.threshold != limit:
        defects.append(f"margin_threshold is {margin.threshold:g}, not {limit:g} arcsec")
    listed = {margin.path(pixel) for pixel in margin.pixels}
    there = margin.root.glob("Norder=*/Dir=*/Npix=*")
    defects += _names(
        "files that are not listed", {str(path) for path in there if path not in listed}
    )
    return defects + _partition_list(margin, rows) + _footers(margin, rows)


def description_defects(
    primary: AuditedCatalog, margin: AuditedCatalog, schema: pa.Schema
) -> list[str]:
    """Return a line for each thing that the margin says of its columns, and that is wrong.

    Args:
        primary: The primary.
        margin: The margin.
        schema: Schema of the primary.
    """
    defects = []
    if margin.position != primary.position:
        defects.append(
            f"the coordinates are {' and '.join(margin.position)} by the margin's metadata, and "
            f"{' and '.join(primary.position)} by the primary's"
        )
    if None not in (margin.index, primary.index) and margin.index != primary.index:
        defects.append(
            f"the spatial index is {margin.index} by the margin's metadata, and {primary.index} "
            "by the primary's"
        )
    path = margin.root / "_common_metadata"
    if path.exists():
        try:
            found = schema_defects(schema, pq.read_schema(path))
        except (OSError, ValueError) as error:
            found = [f"cannot be read: {error}"]
        defects += [f"{path}: {line}" for line in found]
    return defects


def schema_defects(primary: pa.Schema, margin: pa.Schema) -> list[str]:
    """Return a line for each column that a file of the margin has otherwise than the primary.

    Columns that say where a row is may be there or not; so may the spatial index of the other
    format.

    Args:
        primary: Schema of the primary.
        margin: Schema of a file of the margin.
    """
    free = of_the_file(primary) | set(INDEXES)
    wanted = {field.name: field.type for field in primary if field.name not in free}
    there = {field.name: field.type for field in margin if field.name not in free}
    both = [name for name in wanted if name in there]
    return [
        *(f"no column {name}" for name in wanted if name not in there),
        *(f"column {name}, which the primary has not" for name in there if name not in wanted),
        *(
            f"column {name} is {there[name]}, not {wanted[name]}"
            for name in both
            if there[name] != wanted[name]
        ),
    ]


def _partition_list(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    places = [margin.root / "partition_info.csv", margin.root.parent / "partition_info.csv"]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return []
    try:
        table = pd.read_csv(path)
        pixels = set(zip(table["Norder"].tolist(), table["Npix"].tolist(), strict=True))
    except (OSError, ValueError, KeyError) as error:
        return [f"{path}: cannot be read: {error}"]
    defects = _different(path, pixels, set(margin.pixels))
    if "num_rows" in table:
        numbers = zip(table["Norder"], table["Npix"], table["num_rows"], strict=True)
        counted = {(int(order), int(pixel)): int(number) for order, pixel, number in numbers}
        defects += _other_numbers(path, counted, rows)
    return defects


def _footers(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    path = margin.root / "_metadata"
    if not path.exists():
        return []
    try:
        footer = pq.read_metadata(path)
        counted: Counter[Pixel] = Counter()
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            place = _PLACE.search(group.column(0).file_path)
            if place is None:
                raise ValueError(f"a file {group.column(0).file_path} is of no pixel")
            counted[int(place[1]), int(place[2])] += group.num_rows
    except (OSError, ValueError, KeyError) as error:
        return [f"{path}: cannot be read: {error}"]
    filled = {pixel for pixel in margin.pixels if rows.get(pixel, 1)}
    return _different(path, set(counted) & (set(counted) - set(rows) | filled), filled) + (
        _other_numbers(path, counted, rows)
    )


def _different(path: Path, pixels: set[Pixel], listed: set[Pixel]) -> list[str]:
    return _names(f"pixels that only {path} has", set(map(str, pixels - listed))) + _names(
        f"pixels that {path} lacks", set(map(str, listed - pixels))
    )


def _other_numbers(
    path: Path, counted: Mapping[Pixel, int], rows: Mapping[Pixel, int]
) -> list[str]:
    wrong = {
        f"{pixel}: {number} for {rows[pixel]}"
        for pixel, number in counted.items()
        if pixel in rows and rows[pixel] != number
    }
    return _names(f"numbers of rows that {path} has otherwise than the files", wrong)


def _names(what: str, names: set[str]) -> list[str]:
    shown = ", ".join(sorted(names)[:MOST_NAMES]) + ", ..." * (len(names) > MOST_NAMES)
    return [f"{len(names)} {what}: {shown}"] if names else []
