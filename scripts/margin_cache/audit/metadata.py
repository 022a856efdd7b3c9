"""Compares the metadata and the schemas of a margin with its files and with the primary."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd

from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.columns import PrimaryColumns
from margin_cache.audit.files import (
    AnyPath,
    UnreadableFile,
    is_there,
    names_below,
    open_parquet,
    read_bytes,
)
from margin_cache.audit.pixels import PIXEL_PATH, Pixel

MAX_EXAMPLES = 3  # in a line

_REFUSED = "; LSDB can refuse to open the margin"


def metadata_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    """Return a line for each contradiction between the margin's metadata and its files.

    ``rows`` has the number of rows of each listed pixel whose files could be read.
    """
    total = sum(rows.values())
    defects = []
    if margin.rows is not None and margin.rows != total:
        defects.append(f"total_rows is {margin.rows}, but the files have {total} rows")
    unlisted = set(_partitions_on_disk(margin)) - set(map(margin.path, margin.pixels))
    defects += _examples("files that the margin does not list", unlisted)
    return defects + _partition_info_defects(margin, rows) + _footer_defects(margin, rows)


def description_defects(
    primary: AuditedCatalog, margin: AuditedCatalog, columns: PrimaryColumns, threshold: float
) -> list[str]:
    """Return a line for each error in what the margin's metadata say of its rows and columns."""
    defects = []
    if margin.threshold is not None and margin.threshold != threshold:
        defects.append(f"margin_threshold is {margin.threshold:g}, not {threshold:g} arcsec")
    if margin.position_columns != primary.position_columns:
        defects.append(
            f"the coordinates are {' and '.join(margin.position_columns)} in the margin's "
            f"metadata, but {' and '.join(primary.position_columns)} in the primary's{_REFUSED}"
        )
    indexes = margin.index_column, primary.index_column
    if None not in indexes and margin.index_column != primary.index_column:
        defects.append(
            f"the spatial index is {margin.index_column} in the margin's metadata, but "
            f"{primary.index_column} in the primary's{_REFUSED}"
        )
    path = margin.root / "_common_metadata"
    if is_there(path):
        try:
            with open_parquet(path) as file:
                lines = columns.defects(file.schema_arrow)
            defects += [f"{path}: {line}{_REFUSED}" for line in lines]
        except UnreadableFile as error:
            defects.append(str(error))
    return defects


def _partitions_on_disk(margin: AuditedCatalog) -> list[AnyPath]:
    """Return the files or directories of partitions; none where a server does not list them."""
    names = names_below(margin.root) or []
    parts = {"/".join(name.split("/")[:3]) for name in names}
    return [margin.root / part for part in parts if PIXEL_PATH.match(part)]


def _partition_info_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    paths = [directory / "partition_info.csv" for directory in (margin.root, margin.root.parent)]
    found = ((path, content) for path in paths if (content := read_bytes(path)) is not None)
    path, content = next(found, (None, b""))
    if path is None:
        return []
    try:
        table = pd.read_csv(io.BytesIO(content))
        pixels = list(zip(table["Norder"].tolist(), table["Npix"].tolist(), strict=True))
    except (ValueError, KeyError) as error:
        return [f"{path}: cannot be read: {error}"]
    defects = _pixel_defects(path, set(pixels), set(margin.pixels))
    if "num_rows" in table:
        counts = pd.to_numeric(table["num_rows"], errors="coerce").fillna(-1).tolist()
        defects += _row_number_defects(path, dict(zip(pixels, counts, strict=True)), rows)
    return defects


def _footer_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    path = margin.root / "_metadata"
    if not is_there(path):
        return []
    try:
        with open_parquet(path) as file:
            footer = file.metadata
        numbers: Counter[Pixel] = Counter()
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            match = PIXEL_PATH.search(group.column(0).file_path)
            if match is None:
                raise ValueError(f"{group.column(0).file_path!r} is not the path of a pixel")
            numbers[int(match[1]), int(match[2])] += group.num_rows
    except UnreadableFile as error:
        return [str(error)]
    except ValueError as error:
        return [f"{path}: cannot be read: {error}"]
    # A file without rows may have no row group, and so be absent from the footers.
    filled = {pixel for pixel in margin.pixels if rows.get(pixel, 1)}
    pixels = {pixel for pixel in numbers if pixel in filled or pixel not in rows}
    return _pixel_defects(path, pixels, filled) + _row_number_defects(path, numbers, rows)


def _pixel_defects(path: AnyPath, pixels: set[Pixel], listed: set[Pixel]) -> list[str]:
    return [
        *_examples(f"pixels only in {path}", pixels - listed),
        *_examples(f"pixels missing from {path}", listed - pixels),
    ]


def _row_number_defects(
    path: AnyPath, numbers: Mapping[Pixel, int], rows: Mapping[Pixel, int]
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
