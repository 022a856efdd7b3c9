"""File names, keys and columns of HiPSCat and HATS catalogs, each written once.

Sources: the documentation of HATS (https://hats.readthedocs.io), and the packages hats
and hipscat, whose readers decide in practice.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from margin_cache.healpix.nested import Pixel

CATALOG_INFO = "catalog_info.json"  # of HiPSCat
PROPERTIES = ("hats.properties", "properties")  # of HATS; the first that exists is read
DESCRIPTIONS = (*PROPERTIES, CATALOG_INFO)  # by which readers find a catalog, of either format
COLLECTION_PROPERTIES = "collection.properties"  # of a HATS collection: primary table and margins

PARTITION_INFO = "partition_info.csv"
METADATA, COMMON_METADATA = "_metadata", "_common_metadata"
PROVENANCE_INFO = "provenance_info.json"
DATASET = "dataset"  # directory of the Parquet files of a HATS catalog; HiPSCat has none
PARQUET_SUFFIX = ".parquet"

NORDER, DIR, NPIX = "Norder", "Dir", "Npix"
"""Parts of the path of a partition, columns of partition_info.csv, and columns of HiPSCat rows."""

PRIMARY_TYPES = ("object", "source")  # of catalogs that margins are made from
MARGIN_TYPE = "margin"


class HipscatKey:
    """Keys of catalog_info.json."""

    NAME = "catalog_name"
    TYPE = "catalog_type"
    ROWS = "total_rows"
    EPOCH = "epoch"
    RA = "ra_column"
    DEC = "dec_column"
    PRIMARY = "primary_catalog"
    THRESHOLD = "margin_threshold"


class HipscatIndex:
    """The spatial index of a HiPSCat catalog: a nested pixel, then a counter of rows."""

    COLUMN = "_hipscat_index"
    ORDER = 19
    COUNTER_BITS = 22


class HatsKey:
    """Keys of hats.properties and collection.properties."""

    NAME = "obs_collection"
    TYPE = "dataproduct_type"
    ROWS = "hats_nrows"
    RA = "hats_col_ra"
    DEC = "hats_col_dec"
    INDEX = "hats_col_healpix"
    INDEX_ORDER = "hats_col_healpix_order"
    PRIMARY = "hats_primary_table_url"
    THRESHOLD = "hats_margin_threshold"
    NPIX_SUFFIX = "hats_npix_suffix"
    ORDER = "hats_order"
    SKY_FRACTION = "moc_sky_fraction"
    BUILDER = "hats_builder"
    CREATION_DATE = "hats_creation_date"
    SIZE = "hats_estsize"
    RELEASE_DATE = "hats_release_date"
    VERSION = "hats_version"
    MARGINS = "all_margins"
    DEFAULT_MARGIN = "default_margin"


Number = TypeVar("Number", int, NDArray[np.int64])


def pixel_dir(number: Number) -> Number:
    """Return the ``Dir`` of pixel numbers: 0, 10000, 20000, ... for 10,000 numbers each."""
    return number // 10000 * 10000


def pixel_path(pixel: Pixel, npix_suffix: str = PARQUET_SUFFIX) -> str:
    """Return the path of a pixel's file relative to the Parquet files of its catalog."""
    directory = f"{NORDER}={pixel.order}/{DIR}={pixel_dir(pixel.number)}"
    return f"{directory}/{NPIX}={pixel.number}{npix_suffix}"
