"""Rows of the primary near each audited pixel, and of the margin; each file is read once."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.compare import row_digests
from margin_cache.audit.distance import near_boundary
from margin_cache.audit.pixels import Pixel

MAX_CACHED_ROWS = 5_000_000  # of each cache; some 200 MB


class RowCache:
    """Rows by pixel. Those used last are kept, MAX_CACHED_ROWS together."""

    def __init__(self, read: Callable[[Pixel], pd.DataFrame]) -> None:
        self._read = read
        self._tables: OrderedDict[Pixel, pd.DataFrame] = OrderedDict()

    def rows(self, pixel: Pixel) -> pd.DataFrame:
        if pixel not in self._tables:
            self._tables[pixel] = self._read(pixel)
            while len(self._tables) > 1 and sum(map(len, self._tables.values())) > MAX_CACHED_ROWS:
                self._tables.popitem(last=False)
        self._tables.move_to_end(pixel)
        return self._tables[pixel]


class NearbyRows:
    """The rows of a primary that can matter for pixels outside of their partition.

    They are near the boundary of their partition, because every point outside of it is nearer to
    the boundary than to the row; or the margin has their index, rightly or not.
    """

    def __init__(
        self,
        primary: AuditedCatalog,
        threshold: float,
        columns: list[str],
        margin_indexes: Callable[[Pixel], npt.NDArray[np.uint64]],
    ) -> None:
        """Prepare to read.

        Args:
            primary: The primary.
            threshold: Arcsec.
            columns: Columns whose values are compared.
            margin_indexes: Returns the spatial indexes that the margin has for pixels near a
                partition.
        """
        self._primary = primary
        self._threshold = threshold
        self._columns = columns
        self._margin_indexes = margin_indexes
        self._cache = RowCache(self._read)

    def rows(self, pixel: Pixel, partitions: list[Pixel]) -> pd.DataFrame:
        """Return the rows of partitions near a pixel, as `compare_rows` expects them.

        Raises:
            MarginCacheError: A partition cannot be read.
        """
        tables = [
            self._cache.rows(partition).assign(own=partition == pixel) for partition in partitions
        ]
        return pd.concat(tables) if tables else no_rows().assign(own=False)

    def _read(self, partition: Pixel) -> pd.DataFrame:
        primary = self._primary
        index_column = primary.index_column_of(partition)
        table = primary.read(partition, [index_column, *primary.position_columns])
        rows = row_positions(table, index_column, primary.position_columns)
        is_in_margin = rows["index"].isin(self._margin_indexes(partition)).to_numpy()
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        is_near = near_boundary(ra, dec, *partition, self._threshold)
        if is_in_margin.any() and self._columns:
            values = primary.read_selected(partition, self._columns, is_in_margin)
            rows.loc[is_in_margin, "digest"] = row_digests(values, self._columns)
        return rows[is_in_margin | is_near].copy()


def row_positions(
    table: pa.Table, index_column: str, position_columns: tuple[str, str]
) -> pd.DataFrame:
    """Return `index`, `ra` and `dec` of rows, with a `digest` of 0."""
    ra, dec = (table[name].to_numpy().astype(np.float64) for name in position_columns)
    index = table[index_column].to_numpy().astype(np.uint64)
    return pd.DataFrame({"index": index, "ra": ra, "dec": dec, "digest": np.uint64(0)})


def no_rows() -> pd.DataFrame:
    """Return a table without rows, with the types of `row_positions`."""
    types = {"index": np.uint64, "ra": np.float64, "dec": np.float64, "digest": np.uint64}
    return pd.DataFrame({name: np.empty(0, kind) for name, kind in types.items()})
