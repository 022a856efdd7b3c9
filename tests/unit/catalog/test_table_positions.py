"""The spatial index and the coordinates are taken from tables, or the former made of the latter."""

import numpy as np
import pyarrow as pa
from margin_cache.catalog.table_positions import coordinates, spatial_index
from support import skies
from support.catalog_infos import HATS, HIPSCAT


def test_the_spatial_index_is_the_column() -> None:
    values = np.array([3 << 40, 1 << 63], np.uint64)
    table = pa.table({"_hipscat_index": values, "ra": [1.0, 2.0], "dec": [0.0, 0.0]})
    found = spatial_index(HIPSCAT, table)
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, values)


def test_a_spatial_index_is_made_of_the_coordinates_where_there_is_none() -> None:
    ra, dec = skies.uniform_sky(np.random.default_rng(4), 500)
    found = spatial_index(HATS, pa.table({"ra": ra, "dec": dec}))
    np.testing.assert_array_equal(found, skies.nested_pixels(ra, dec, 29))


def test_coordinates_are_doubles_and_nan_where_they_are_null() -> None:
    table = pa.table({"ra": pa.array([1.5, None], pa.float32()), "dec": [None, -2.5]})
    lon, lat = coordinates(HATS, table)
    assert lon.dtype == lat.dtype == np.float64
    np.testing.assert_array_equal(lon, [1.5, np.nan])
    np.testing.assert_array_equal(lat, [np.nan, -2.5])
