"""The columns of a primary: which of them a margin must have, and whose values are compared."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from margin_cache.audit.catalogs import INDEX_COLUMNS, AuditedCatalog
from margin_cache.audit.digests import plain_type
from margin_cache.audit.files import UnreadableFile
from margin_cache.audit.pixels import Pixel

PIXEL_COLUMNS = ("Norder", "Dir", "Npix")
"""Columns of HiPSCat files that name their pixel."""

SOURCE_COLUMNS = tuple(f"margin_{name}" for name in PIXEL_COLUMNS)
"""Columns of HiPSCat margins that name the partition that a row comes from."""


class PrimaryColumns:
    """The columns of a primary.

    Attributes:
        schema: Columns of its partitions.
        compared: Names of the columns whose values are compared: all but the spatial index and, in
            HiPSCat, those that name the pixel of the file.
    """

    def __init__(self, primary: AuditedCatalog, index_column: str | None) -> None:
        self._primary = primary
        self.schema = _schema(primary)
        self._index_column = index_column
        self._ignored = PIXEL_COLUMNS if primary.is_hipscat else ()
        not_compared = {index_column, *self._ignored}
        self.compared = [name for name in self.schema.names if name not in not_compared]

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
        repeated = _repeated(margin)
        optional = {*PIXEL_COLUMNS, *SOURCE_COLUMNS, *INDEX_COLUMNS, *self.schema.names}
        return [
            *(
                f"no column {name}"
                for name in (*self.schema.names, *self._sources)
                if name not in margin.names
            ),
            *(f"several columns {name}" for name in repeated),
            *(
                f"column {name} is not in the primary"
                for name in dict.fromkeys(margin.names)
                if name not in optional
            ),
            *(
                f"column {name} is {margin.field(name).type}, not {self.schema.field(name).type}"
                for name in self.schema.names
                if name in margin.names
                and name not in repeated
                and name not in self._ignored
                and not self._has_type(name, margin.field(name).type)
            ),
        ]

    @property
    def _sources(self) -> tuple[str, ...]:
        return SOURCE_COLUMNS if self._primary.is_hipscat else ()

    def _is_same_kind(self, name: str, kind: pa.DataType) -> bool:
        return plain_type(kind) == plain_type(self.schema.field(name).type)

    def _has_type(self, name: str, kind: pa.DataType) -> bool:
        """Return whether the primary has a column with a type, in its schema or in a partition."""
        if name == self._index_column and pa.types.is_integer(kind):
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
    """Return the names that several columns have."""
    return [name for name, number in Counter(schema.names).items() if number > 1]


def _schema(primary: AuditedCatalog) -> pa.Schema:
    """Return the columns of the partitions, with the types that the catalog states.

    Without such a statement, with a type even if a partition has only nulls.
    """
    schema, stated = primary.schemas(primary.pixels[0])[0], primary.stated_schema
    if repeated := _repeated(schema):
        path = primary.path(primary.pixels[0])
        raise UnreadableFile(f"{path}: several columns {', '.join(repeated)}")
    for pixel in (None, *primary.pixels[1:]):
        other = stated if pixel is None else primary.schemas(pixel)[0]
        for number, field in enumerate(schema):
            if field.name in other.names and (pixel is None or pa.types.is_null(field.type)):
                schema = schema.set(number, other.field(field.name))
        if not any(pa.types.is_null(field.type) for field in schema):
            break
    return schema


def values_of_pixel(pixel: Pixel) -> dict[str, int]:
    """Return the values of PIXEL_COLUMNS for a pixel."""
    order, number = pixel
    return dict(zip(PIXEL_COLUMNS, (order, number // 10000 * 10000, number), strict=True))


def name_pixel(rows: pa.Table, pixel: Pixel) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows whose PIXEL_COLUMNS, numbers or their texts, name a pixel."""
    mask = np.ones(len(rows), bool)
    for name, value in values_of_pixel(pixel).items():
        if name in rows.column_names:
            numbers = pd.to_numeric(np.asarray(rows[name].to_pandas()), errors="coerce")
            mask &= numbers == value
    return mask
