"""Compares the columns and the metadata of a margin with its files and with the primary."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from margin_cache.audit.catalogs import INDEX_COLUMNS, PIXEL_PATH, AuditedCatalog
from margin_cache.audit.compare import Mask, plain_type
from margin_cache.audit.files import (
    AnyPath,
    UnreadableFile,
    is_there,
    names_below,
    open_parquet,
    read_bytes,
)
from margin_cache.audit.request import Pixel

PIXEL_COLUMNS = ("Norder", "Dir", "Npix")
"""Columns of HiPSCat files that name their pixel."""

SOURCE_COLUMNS = tuple(f"margin_{name}" for name in PIXEL_COLUMNS)
"""Columns of HiPSCat margins that name the partition that a row comes from."""

MAX_EXAMPLES = 3  # in a line

_REFUSED = "; LSDB can refuse to open the margin"


class PrimaryColumns:
    """The columns of a primary.

    Attributes:
        index: The column of the spatial index; None if there is none.
        schema: Columns of its partitions.
        compared: Names of the columns whose values are compared: all but the spatial index and, in
            HiPSCat, those that name the pixel of the file.
    """

    def __init__(self, primary: AuditedCatalog) -> None:
        self._primary = primary
        self.schema = _schema(primary)
        names = self.schema.names
        self.index = primary.index_column
        if self.index is None:
            self.index = next((name for name in INDEX_COLUMNS if name in names), None)
        elif self.index not in names:
            path = primary.path(primary.pixels[0])
            raise UnreadableFile(f"{path}: no column {self.index}")
        self._ignored = PIXEL_COLUMNS if primary.is_hipscat else ()
        self._sources = SOURCE_COLUMNS if primary.is_hipscat else ()
        self.compared = [name for name in names if name not in (self.index, *self._ignored)]

    def names_in_margin(self, margin: pa.Schema) -> list[str]:
        """Return the names that the compared columns have in a file of the margin."""
        if not {*SOURCE_COLUMNS} <= {*margin.names}:
            return self.compared
        names = dict(zip(PIXEL_COLUMNS, SOURCE_COLUMNS, strict=True))
        return [names.get(name, name) for name in self.compared]

    def are_comparable(self, margin: pa.Schema) -> bool:
        """Return whether a file of the margin has all columns, with values of the same kind."""
        if _repeated(margin):
            return False
        names = dict(zip(self.compared, self.names_in_margin(margin), strict=True))
        return {*names.values(), *self._sources} <= {*margin.names} and all(
            column != name or self._is_same_kind(name, margin.field(name).type)
            for column, name in names.items()
        )

    def defects(self, margin: pa.Schema) -> list[str]:
        """Return a line for each column in which a file of the margin differs from the primary.

        Other columns that name pixels, and the index of the other format, may be present or not.
        """
        names, repeated = dict.fromkeys(margin.names), _repeated(margin)
        needed = (*self.schema.names, *self._sources)
        optional = {*PIXEL_COLUMNS, *SOURCE_COLUMNS, *INDEX_COLUMNS, *self.schema.names}
        lines = [f"no column {name}" for name in needed if name not in names]
        lines += [f"several columns {name}" for name in repeated]
        lines += [f"column {name} is not in the primary" for name in names if name not in optional]
        for name in self.schema.names:
            if name in names and name not in (*repeated, *self._ignored):
                kind = margin.field(name).type
                if not self._has_type(name, kind):
                    lines.append(f"column {name} is {kind}, not {self.schema.field(name).type}")
        return lines

    def _is_same_kind(self, name: str, kind: pa.DataType) -> bool:
        return plain_type(kind) == plain_type(self.schema.field(name).type)

    def _has_type(self, name: str, kind: pa.DataType) -> bool:
        """Return whether the primary has a column with a type, in its schema or in a partition."""
        if name == self.index and pa.types.is_integer(kind):
            return True
        stated = (self.schema, self._primary.stated_schema)
        if any(schema.field(name).type == kind for schema in stated if name in schema.names):
            return True
        return self._is_same_kind(name, kind) and any(
            schema.field(name).type == kind
            for pixel in self._primary.pixels
            for schema in self._primary.schemas(pixel)
            if name in schema.names
        )


def _repeated(schema: pa.Schema) -> list[str]:
    return [name for name, number in Counter(schema.names).items() if number > 1]


def _schema(primary: AuditedCatalog) -> pa.Schema:
    """Return the columns of the partitions, with the types that the catalog states.

    Without such a statement, with a type even if a partition has only nulls.
    """
    schema = primary.schemas(primary.pixels[0])[0]
    if repeated := _repeated(schema):
        path = primary.path(primary.pixels[0])
        raise UnreadableFile(f"{path}: several columns {', '.join(repeated)}")
    fields = {field.name: field for field in schema}
    fields.update({field.name: field for field in primary.stated_schema if field.name in fields})
    for pixel in primary.pixels[1:]:
        nulls = [name for name, field in fields.items() if pa.types.is_null(field.type)]
        if not nulls:
            break
        other = primary.schemas(pixel)[0]
        fields.update({name: other.field(name) for name in nulls if name in other.names})
    return pa.schema(fields.values())


def values_of_pixel(pixel: Pixel) -> dict[str, int]:
    order, number = pixel
    return dict(zip(PIXEL_COLUMNS, (order, number // 10000 * 10000, number), strict=True))


def name_pixel(rows: pa.Table, pixel: Pixel) -> Mask:
    """Return a mask of the rows whose PIXEL_COLUMNS, numbers or their texts, name a pixel."""
    mask = np.ones(len(rows), bool)
    for name, value in values_of_pixel(pixel).items():
        if name in rows.column_names:
            numbers = pd.to_numeric(np.asarray(rows[name].to_pandas()), errors="coerce")
            mask &= numbers == value
    return mask


def metadata_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    """Return a line for each contradiction between the margin's metadata and its files.

    ``rows`` has the number of rows of each listed pixel whose files could be read.
    """
    total = sum(rows.values())
    defects = []
    if margin.rows is not None and margin.rows != total:
        defects.append(f"total_rows is {margin.rows}, but the files have {total} rows")
    names = names_below(margin.root) or []  # none where a server does not list them
    parts = {"/".join(name.split("/")[:3]) for name in names}
    partitions = {margin.root / part for part in parts if PIXEL_PATH.match(part)}
    unlisted = partitions - set(map(margin.path, margin.pixels))
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


def _partition_info_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    for directory in (margin.root, margin.root.parent):
        path = directory / "partition_info.csv"
        if (content := read_bytes(path)) is not None:
            break
    else:
        return []
    try:
        table = pd.read_csv(io.BytesIO(content))
        pixels = list(zip(table["Norder"].tolist(), table["Npix"].tolist(), strict=True))
    except (ValueError, KeyError) as error:
        return [f"{path}: cannot be read: {error}"]
    numbers = {pixel: rows.get(pixel, 0) for pixel in pixels}
    if "num_rows" in table:
        counts = pd.to_numeric(table["num_rows"], errors="coerce").fillna(-1).tolist()
        numbers = dict(zip(pixels, counts, strict=True))
    return _list_defects(path, numbers, set(margin.pixels), rows)


def _footer_defects(margin: AuditedCatalog, rows: Mapping[Pixel, int]) -> list[str]:
    path = margin.root / "_metadata"
    if not is_there(path):
        return []
    numbers: Counter[Pixel] = Counter()
    try:
        with open_parquet(path) as file:
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                match = PIXEL_PATH.search(group.column(0).file_path)
                if match is None:
                    raise ValueError(f"{group.column(0).file_path!r} is not the path of a pixel")
                numbers[int(match[1]), int(match[2])] += group.num_rows
    except UnreadableFile as error:
        return [str(error)]
    # A file without rows may have no row group, and so be absent from the footers.
    filled = {pixel for pixel in margin.pixels if rows.get(pixel, 1)}
    return _list_defects(path, +numbers, filled, rows)


def _list_defects(
    path: AnyPath, numbers: Mapping[Pixel, int], listed: set[Pixel], rows: Mapping[Pixel, int]
) -> list[str]:
    """Return lines about a list of pixels with their numbers of rows."""
    wrong = [
        f"{pixel}: {number} instead of {rows[pixel]}"
        for pixel, number in numbers.items()
        if pixel in rows and rows[pixel] != number
    ]
    return [
        *_examples(f"pixels only in {path}", numbers.keys() - listed),
        *_examples(f"pixels missing from {path}", listed - numbers.keys()),
        *_examples(f"numbers of rows in {path} that differ from the files", wrong),
    ]


def _examples(subject: str, names: Iterable[object]) -> list[str]:
    texts = sorted(map(str, names))
    shown = ", ".join(texts[:MAX_EXAMPLES]) + ", ..." * (len(texts) > MAX_EXAMPLES)
    return [f"{len(texts)} {subject}: {shown}"] if texts else []
