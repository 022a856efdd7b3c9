"""URLs of catalogs: which are taken, and where on disk a catalog behind one is mirrored."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from margin_cache.errors import MarginCacheError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:::|://)")

_LOCAL = ("file", "local")

_PLACES = re.compile("endpoint|host|port|account_name|url", re.IGNORECASE)
"""Options that say where a store is, and not who asks."""


def is_url(place: str) -> bool:
    """Tell whether a place is given by a URL, not by a path."""
    return _URL.match(place) is not None


def protocol_of(url: str) -> str:
    """Return the protocol of a URL, in lower case."""
    match = _URL.match(url)
    if match is None:
        raise ValueError(f"{url} is no URL")
    return match[1].lower()


def check_url(key: str, url: str) -> None:
    """Check that a URL names a directory and nothing else, above all no secret.

    Args:
        key: the key of the configuration that it stands under.
        url: the URL.

    Raises:
        MarginCacheError: it does not; the message leaves out what could be a secret.
    """
    options = "output_storage_options" if "output" in key else "input_storage_options"
    bare = re.sub(r"(://)[^/]*@", r"\1", url.partition("?")[0].partition("#")[0])
    try:
        parts = urlsplit(url)
        has_user = parts.username is not None or parts.password is not None
    except ValueError:
        raise MarginCacheError(f"{key}: {bare} is not a URL") from None
    if has_user or "@" in parts.netloc:
        raise MarginCacheError(
            f"{key}: {bare} is given with a user or a password, which would be written into the "
            "margin; leave them out, and give them by the environment, by the files of the store's "
            f"own tools, or as {options} in a configuration file"
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise MarginCacheError(
            f'{key}: {bare} is followed by "?" or "#" and more, which may be a secret and cannot '
            "stand before the names of files; leave it out, and give credentials as "
            f"{options} in a configuration file"
        )
    if "::" in url:
        raise MarginCacheError(f"{key}: {bare} is a chain of URLs; give the last one alone")
    if parts.scheme.lower() in _LOCAL:
        raise MarginCacheError(f"{key}: {bare} is on this machine; give its path, without file://")
    if not parts.netloc:
        raise MarginCacheError(f"{key}: {bare} names no server or bucket; give the whole URL")
    if ".." in parts.path.split("/"):
        raise MarginCacheError(f"{key}: {bare} has .. in it; give the URL without")


def joined(url: str, path: str) -> str:
    """Return the URL of what lies below a URL."""
    return f"{url.rstrip('/')}/{path}" if path not in ("", ".") else url.rstrip("/")


def is_below(path: str) -> bool:
    """Tell whether the name of an object is a path of a file below a directory."""
    return all(part not in ("", ".", "..") for part in path.split("/")) and "\0" not in path


def mirror_dir(url: str, options: Mapping[str, Any]) -> Path:
    """Return the directory that mirrors a catalog, relative to the working directory.

    It is the same for all URLs and options that lead to the same place. Keys and the like have no
    part in it, so that a margin is not another one after they were changed.

    Args:
        url: the URL.
        options: fsspec's options.
    """
    return Path(".snakemake", "remote", _digest(url, options))


def image_dir(url: str, options: Mapping[str, Any]) -> Path:
    """Return the directory that shows what is at a URL which margins are written to.

    Args:
        url: the URL.
        options: fsspec's options.
    """
    return Path(".snakemake", "remote", f"{_digest(url, options)}-margins")


def _digest(url: str, options: Mapping[str, Any]) -> str:
    place = json.dumps([url.rstrip("/"), _places_in(options)], sort_keys=True, default=str)
    return hashlib.blake2b(place.encode(), digest_size=8).hexdigest()


def _places_in(options: Mapping[str, Any]) -> dict[str, Any]:
    places: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            places |= {f"{key}.{inner}": each for inner, each in _places_in(value).items()}
        elif _PLACES.search(str(key)):
            places[str(key)] = value
    return places


def local_path(place: str, options: Mapping[str, Any]) -> tuple[str, str]:
    """Return the directory of a catalog, and its URL if that is a mirror.

    Args:
        place: path or URL, as the user gave it.
        options: fsspec's options.
    """
    return (str(mirror_dir(place, options)), place.rstrip("/")) if is_url(place) else (place, "")
