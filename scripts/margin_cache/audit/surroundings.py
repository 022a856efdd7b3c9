"""The rows of the primary that the audit needs, read once for all pixels around a partition."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.distance import near_boundary
from margin_cache.audit.pixels import Pixel
from margin_cache.audit.values import row_digests

MOST_ROWS = 5_000_000  # that are kept, of partitions that were read last; some 200 MB


class NearbyRows:
    """Partitions of a primary: of each, the rows near its border and those that the margin has.

    Whatever is outside a partition is nearer to a row inside it than a threshold only if the
    partition's border is. So all that a margin should have are rows near borders; that it has
    others is seen by their index.
    """

    def __init__(
        self,
        primary: AuditedCatalog,
        threshold: float,
        columns: list[str],
        indexes_near: Callable[[Pixel], npt.NDArray[np.uint64]],
    ) -> None:
        """Prepare to read.

        Args:
            primary: The primary.
            threshold: Arcsec.
            columns: The columns whose values are compared.
            indexes_near: Gives the spatial indexes that the margin has for pixels around a
                partition.
        """
        self._primary = primary
        self._threshold = threshold
        self._columns = columns
        self._indexes_near = indexes_near
        self._kept: OrderedDict[Pixel, pd.DataFrame] = OrderedDict()

    def rows(self, pixel: Pixel, partitions: list[Pixel]) -> pd.DataFrame:
        """Return the rows of partitions, as `judge_pixel` takes them for a pixel.

        Raises:
            MarginCacheError: A partition cannot be read.
        """
        found = [self._partition(each).assign(own=each == pixel) for each in partitions]
        return pd.concat(found) if found else frame([], [], [], []).assign(own=False)

    def _partition(self, partition: Pixel) -> pd.DataFrame:
        if partition not in self._kept:
            self._kept[partition] = self._read(partition)
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > MOST_ROWS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(partition)
        return self._kept[partition]

    def _read(self, partition: Pixel) -> pd.DataFrame:
        primary = self._primary
        name = primary.index_of(partition)
        table = primary.read(partition, [name, *primary.position])
        rows = positions(table, name, primary.position)
        wanted = rows["index"].isin(self._indexes_near(partition)).to_numpy()
        near = near_boundary(
            rows["ra"].to_numpy(), rows["dec"].to_numpy(), *partition, self._threshold
        )
        if wanted.any() and self._columns:
            values = primary.read_some(partition, self._columns, wanted)
            rows.loc[wanted, "digest"] = row_digests(values, self._columns)
        return rows[wanted | near].copy()


def positions(table: pa.Table, index: str, position: tuple[str, str]) -> pd.DataFrame:
    """Return spatial index and position of rows, with digests that are 0."""
    ra, dec = (table[name].to_numpy().astype(np.float64) for name in position)
    return frame(table[index].to_numpy().astype(np.uint64), ra, dec, np.zeros(len(table)))


def frame(
    index: npt.ArrayLike, ra: npt.ArrayLike, dec: npt.ArrayLike, digest: npt.ArrayLike
) -> pd.DataFrame:
    """Return rows as `judge_pixel` takes those of a margin."""
    return pd.DataFrame(
        {
            "index": np.asarray(index, np.uint64),
            "ra": np.asarray(ra, np.float64),
            "dec": np.asarray(dec, np.float64),
            "digest": np.asarray(digest, np.uint64),
        }
    )
