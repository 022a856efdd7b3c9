"""Ways to stores of objects, by the drivers of fsspec."""

from typing import Any

from margin_cache.errors import MarginCacheError
from margin_cache.storage.door import Door
from margin_cache.storage.http_door import HttpDoor
from margin_cache.storage.other_door import OtherDoor
from margin_cache.storage.s3_door import S3Door
from margin_cache.storage.urls import protocol_of

_DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "adl": "adlfs",
}
"""Packages of drivers that fsspec does not have in itself."""


async def open_door(url: str, options: dict[str, Any], side: str = "input") -> Door:
    """Return the way to the store of a URL, by the driver that fsspec has for it.

    Args:
        url: the URL.
        options: fsspec's options.
        side: "input" or "output": which keys of the configuration are to blame.

    Raises:
        MarginCacheError: there is no driver, or it does not take the options.
    """
    import fsspec

    protocol = protocol_of(url)
    try:
        system = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError):
        package = _DRIVERS.get(protocol)
        problem = f"the package {package} is needed" if package else "fsspec has no driver for it"
        todo = "install it" if package else "give another URL"
        raise MarginCacheError(
            f"{'input_catalog_path' if side == 'input' else 'output_path'}: {url} is reached by "
            f"{protocol}, for which {problem}; {todo}"
        ) from None
    doors: dict[str, type[HttpDoor] | type[S3Door]] = {
        "http": HttpDoor,
        "https": HttpDoor,
        "s3": S3Door,
        "s3a": S3Door,
    }
    make = doors.get(protocol, OtherDoor)
    try:
        return make(system, options)
    except (TypeError, ValueError) as error:
        raise MarginCacheError(
            f"{side}_storage_options: are not taken by the driver for {protocol} "
            f"({type(error).__name__}); see the documentation of {system.__name__}"
        ) from None
