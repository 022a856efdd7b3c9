"""Rows of the primary near each audited pixel, and of the margin; each file is read once."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import healpy
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from margin_cache.audit.catalogs import AuditedCatalog, are_positions
from margin_cache.audit.columns import values_of_pixel
from margin_cache.audit.digests import Digests, row_digests
from margin_cache.audit.distance import near_boundary
from margin_cache.audit.pixels import FINEST_ORDER, Pixel, first_descendant
from margin_cache.errors import MarginCacheError

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


@dataclass
class NearbyRows:
    """The rows of a primary that can matter for pixels outside of their partition.

    They are near the boundary of their partition, because every point outside of it is nearer to
    the boundary than to the row; or the margin has their index, rightly or not.

    Attributes:
        primary: The catalog whose rows are read.
        threshold: Threshold of the margin in arcsec.
        index_column: Spatial index; None if it is computed.
        columns: Columns whose values are compared.
        margin_indexes: Returns the spatial indexes that the margin has for pixels near a partition.
    """

    primary: AuditedCatalog
    threshold: float
    index_column: str | None
    columns: list[str]
    margin_indexes: Callable[[Pixel], npt.NDArray[np.uint64]]

    def __post_init__(self) -> None:
        self._cache = RowCache(self._read)
        self._positions = RowCache(partial(_positions, self.primary, self.index_column))

    def rows(self, pixel: Pixel, partitions: list[Pixel]) -> pd.DataFrame:
        """Return the rows of partitions near a pixel, as `compare_rows` expects them."""
        tables = [no_rows(), *map(self._cache.rows, partitions)]
        is_own = [False, *(partition == pixel for partition in partitions)]
        return pd.concat(tables).assign(own=np.repeat(is_own, list(map(len, tables))))

    def distant_rows(self, rows: pd.DataFrame, pixel: Pixel, nearby: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the primary that a margin has, but that are not among the nearby ones.

        They are looked up in the partitions in which the margin's rows lie by their positions.
        """
        rows = rows[~rows["index"].isin(nearby["index"])]
        if rows.empty:
            return nearby[:0]
        tables = [nearby[:0]]
        for partition in self._partitions_at(rows):
            positions = self._positions.rows(partition)
            is_nearby = positions["index"].isin(nearby["index"])
            is_known = (positions["index"].isin(rows["index"]) & ~is_nearby).to_numpy()
            if is_known.any():
                digests = self._digests(partition, is_known)
                tables.append(positions[is_known].assign(digest=digests, own=partition == pixel))
        return pd.concat(tables)

    def _partitions_at(self, rows: pd.DataFrame) -> set[Pixel]:
        """Return the partitions that contain the positions of rows."""
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        is_valid = are_positions(ra, dec)
        points = healpy.ang2pix(
            1 << FINEST_ORDER, ra[is_valid], dec[is_valid], nest=True, lonlat=True
        )
        pixels = np.array(self.primary.pixels).reshape(-1, 2)
        starts = np.array([first_descendant(pixel) for pixel in self.primary.pixels], np.int64)
        order = np.argsort(starts)
        last = np.searchsorted(starts[order], points, side="right") - 1
        chosen = order[np.unique(last[last >= 0])]
        return {(int(o), int(number)) for o, number in pixels[chosen]}

    def _read(self, partition: Pixel) -> pd.DataFrame:
        rows = _positions(self.primary, self.index_column, partition)
        is_in_margin = rows["index"].isin(self.margin_indexes(partition)).to_numpy()
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        is_near = near_boundary(ra, dec, *partition, self.threshold)
        if is_in_margin.any():
            rows.loc[is_in_margin, "digest"] = self._digests(partition, is_in_margin)
        return rows[is_in_margin | is_near].copy()

    def _digests(self, partition: Pixel, is_selected: npt.NDArray[np.bool_]) -> Digests:
        """Return digests of rows; in HiPSCat also of the partition, which the margin names."""
        digests = self.primary.digests(partition, self.columns, is_selected)
        if not self.primary.is_hipscat:
            return digests
        values = values_of_pixel(partition)
        table = pa.table({name: np.full(len(digests), value) for name, value in values.items()})
        return row_digests(table, list(values), digests=digests)


def _positions(catalog: AuditedCatalog, index_column: str | None, pixel: Pixel) -> pd.DataFrame:
    """Read the positions of a partition, all of which must be possible."""
    rows = catalog.positions(pixel, index_column)
    is_valid = are_positions(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    if not is_valid.all():
        raise MarginCacheError(
            f"{catalog.path(pixel)}: {' or '.join(catalog.position_columns)} is null, NaN or "
            f"impossible in {np.count_nonzero(~is_valid)} of {len(rows)} rows. Correct them, or "
            "remove them from the catalog."
        )
    return rows


def no_rows() -> pd.DataFrame:
    """Return a table without rows, with the types of `AuditedCatalog.positions`."""
    types = {"index": np.uint64, "ra": np.float64, "dec": np.float64, "digest": np.uint64}
    rows = pd.DataFrame({name: np.empty(0, kind) for name, kind in types.items()})
    return rows.assign(is_compared=True)
