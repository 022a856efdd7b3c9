"""The spatial index and the coordinates in tables of a catalog's rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from margin_cache.catalog.model import CatalogInfo


def spatial_index(info: CatalogInfo, table: pa.Table) -> NDArray[np.integer]:
    """Return the spatial index of rows: the column, or pixels made from the coordinates.

    Args:
        info: the catalog.
        table: n rows with the index, or with the coordinates if there is none.

    Returns:
        int64 or uint64 array of shape (n,).
    """
    if info.index_column is not None:
        return table[info.index_column].to_numpy()
    # Slow to import, and of no use for catalogs with the column.
    from margin_cache.healpix.neighbors import pixels_at

    return pixels_at(info.index_order, *coordinates(info, table))


def coordinates(
    info: CatalogInfo, table: pa.Table
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascensions and declinations in degrees, NaN where they are null."""
    return tuple(
        pc.cast(table[column], pa.float64()).to_numpy()
        for column in (info.ra_column, info.dec_column)
    )
