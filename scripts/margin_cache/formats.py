"""The two formats behind one interface: what finding, reading and finishing a catalog differ in."""

from pathlib import Path
from types import ModuleType

from margin_cache import hats_format, hipscat_format
from margin_cache.catalog import CatalogInfo
from margin_cache.errors import MarginCacheError


def format_of(info: CatalogInfo) -> ModuleType:
    """Return the module of a catalog's format."""
    return {"hipscat": hipscat_format, "hats": hats_format}[info.format]


def read_catalog_info(path: str) -> CatalogInfo:
    """Read what a catalog of either format says about itself.

    Args:
        path: directory of the catalog, or of a HATS collection, whose primary table is meant.

    Raises:
        MarginCacheError: it is missing, not a catalog, or not one of objects or sources.
    """
    where = f"input_catalog_path: {path}"
    if not Path(path).is_dir():
        problem = "is a file" if Path(path).exists() else "there is no such directory"
        raise MarginCacheError(f"{where}: {problem}; give the directory of a catalog")
    if Path(path, hats_format.COLLECTION).exists():
        path = hats_format.primary_of(path)
        if not Path(path).is_dir():
            raise MarginCacheError(
                f"{where}: {hats_format.COLLECTION} names the primary table {path}, which is not "
                "there"
            )
    if any(Path(path, name).exists() for name in hats_format.INFO):
        return hats_format.read_info(path)
    if Path(path, hipscat_format.INFO).exists():
        return hipscat_format.read_info(path)
    raise MarginCacheError(
        f"{where}: is neither a HiPSCat catalog, which has a {hipscat_format.INFO}, nor a HATS "
        f"one, which has a {hats_format.INFO[0]}"
    )
