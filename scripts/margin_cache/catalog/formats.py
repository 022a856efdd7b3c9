"""The two formats behind one interface: what finding, reading and finishing a catalog differ in."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from margin_cache.catalog import hats, hipscat
from margin_cache.catalog.model import CatalogInfo, MarginSummary
from margin_cache.catalog.spec import CATALOG_INFO, COLLECTION_PROPERTIES, PROPERTIES
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from margin_cache.storage.urls import join_url


class CatalogFormat(Protocol):
    """What a module of a format has; hats.py and hipscat.py are the two."""

    def read_info(self, path: str) -> CatalogInfo:
        """Read what a catalog in a directory says about itself."""
        ...

    def says_it_is_a_margin(self, path: Path) -> bool:
        """Tell whether a directory has a description of a margin."""
        ...

    def stated_rows(self, info: CatalogInfo) -> tuple[str, int] | None:
        """Return the key of the number of rows that a catalog says it has, and the number."""
        ...

    def margin_schema(self, primary: pa.Schema, source: Path) -> pa.Schema:
        """Return the schema of the margins of a primary catalog, whose own is that of a file."""
        ...

    def pixel_columns(
        self,
        orders: NDArray[np.int64],
        pixels: NDArray[np.int64],
        source_orders: NDArray[np.int64],
        source_pixels: NDArray[np.int64],
    ) -> dict[str, NDArray[np.int64]]:
        """Return the columns that name the pixels of rows: of their file and of their source."""
        ...

    def check_hats_keys(self, info: CatalogInfo, given: Iterable[str]) -> None:
        """Check that a margin of a catalog may be made with keys that are for HATS margins."""
        ...

    def additional_properties(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Return the lines that ``addl_hats_properties`` adds to what a margin says of itself."""
        ...

    def footer_path(self, info: CatalogInfo, path: str) -> str:
        """Return how `_metadata` names a file, given by its path in the catalog."""
        ...

    def write_description(
        self, directory: Path, summary: MarginSummary
    ) -> tuple[dict[str, Any], list[str]]:
        """Write what a margin says about itself; return that, and the names of the files."""
        ...

    def partition_list(self, pixels: Iterable[Pixel]) -> str:
        """Return the content of partition_info.csv."""
        ...

    def format_version(self) -> str:
        """Return the version of the format that margins are written in."""
        ...

    def collection_of(self, info: CatalogInfo, output_dir: Path) -> Path | None:
        """Return the collection that a margin lies in, if it is the one of its primary table."""
        ...

    def is_registered(self, info: CatalogInfo, output_dir: Path) -> bool:
        """Tell whether the collection that a margin lies in lists it, if it shall."""
        ...

    def register(self, info: CatalogInfo, output_dir: Path, size: int | None = None) -> None:
        """List a margin in the collection that it lies in, if it shall be.

        Args:
            info: the catalog.
            output_dir: directory of the margin.
            size: bytes of all files of the collection but its properties, if that is known.
        """
        ...


_FORMATS: dict[str, CatalogFormat] = {"hipscat": hipscat, "hats": hats}


def format_of(info: CatalogInfo) -> CatalogFormat:
    """Return the module of a catalog's format."""
    return _FORMATS[info.format]


def read_catalog_info(path: str, url: str = "") -> CatalogInfo:
    """Read what a catalog of either format says about itself.

    Args:
        path: directory of the catalog, or of a HATS collection, whose primary table is meant.
        url: what the directory is the mirror of, if it is one.

    Raises:
        MarginCacheError: it is missing, not a catalog, or not one of objects or sources.
    """
    where = f"input_catalog_path: {url or path}"
    try:
        info = _read_catalog_info(path, where)
    except OSError as error:
        raise MarginCacheError(
            f"{where}: {error.filename or path} cannot be read ({error.strerror}); allow that"
        ) from None
    below = Path(info.path).relative_to(path).as_posix() if url else ""
    info = replace(info, url=join_url(url, below) if url else "")
    info.name_by_url()
    return info


def _read_catalog_info(path: str, where: str) -> CatalogInfo:
    if not Path(path).is_dir():
        if Path(path).is_symlink():
            problem = "is a link that does not lead to a directory"
        else:
            problem = "is a file" if Path(path).exists() else "there is no such directory"
        raise MarginCacheError(f"{where}: {problem}; give the directory of a catalog")
    if Path(path, COLLECTION_PROPERTIES).exists():
        path = hats.primary_of(path)
        if not Path(path).is_dir():
            raise MarginCacheError(
                f"{where}: {COLLECTION_PROPERTIES} names the primary table {path}, which is missing"
            )
    if any(Path(path, name).exists() for name in PROPERTIES):
        return hats.read_info(path)
    if Path(path, CATALOG_INFO).exists():
        return hipscat.read_info(path)
    raise MarginCacheError(
        f"{where}: is neither a HiPSCat catalog, which has a {CATALOG_INFO}, nor a HATS "
        f"one, which has a {PROPERTIES[0]}"
    )


def is_catalog(path: Path) -> bool:
    """Tell whether a directory is that of a catalog or a collection, of either format."""
    return any(
        (path / name).exists() for name in (*PROPERTIES, COLLECTION_PROPERTIES, CATALOG_INFO)
    )


def says_it_is_a_margin(path: Path) -> bool:
    """Tell whether a directory says of itself, in either format, that it is a margin."""
    return any(each.says_it_is_a_margin(path) for each in _FORMATS.values())
