"""URLs of catalogs and margins: which are accepted, and which are of one place."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from margin_cache.errors import MarginCacheError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:::|:/)")  # with one slash it is a typing error

_SYNONYMS = {"s3a": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs", "adl": "abfs"}
"""Protocols that are other names of one kind of store."""


def is_url(location: str) -> bool:
    return _URL.match(location) is not None


def protocol_of(url: str) -> str:
    """Return the protocol of a URL: one name for each kind of store."""
    match = _URL.match(url)
    if match is None:
        raise ValueError(f"{url} is no URL")
    protocol = match[1].lower()
    return _SYNONYMS.get(protocol, protocol)


def check_url(key: str, url: str) -> None:
    """Check that a URL is that of a directory and has no secrets."""
    options = "output_storage_options" if "output" in key else "input_storage_options"
    if _has_user(url):
        protocol = url.partition("://")[0]
        raise MarginCacheError(
            f"{key}: {protocol}://... has a user or password, which would be written into the "
            "margin. Give credentials in the environment, in the files of the store's own tools, "
            f"or as {options} in a configuration file."
        )
    bare = url.partition("?")[0].partition("#")[0]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise MarginCacheError(f"{key}: {bare} is not a URL.") from None
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise MarginCacheError(
            f'{key}: {bare} has a query or fragment ("?" or "#"), which may be a secret and does '
            f"not work with file names. Give credentials as {options} in a configuration file."
        )
    is_strange = not url.isprintable() or url != url.strip()
    if is_strange or "::" in url or ".." in parts.path.split("/"):
        raise MarginCacheError(
            f"{key}: {bare!r} has :: or .. or control characters in it. Give the URL without them."
        )
    if parts.scheme.lower() in ("file", "local"):
        raise MarginCacheError(f"{key}: {bare} is on this machine. Give its path without file://.")
    if not parts.netloc:
        raise MarginCacheError(
            f"{key}: {bare} lacks :// with a server or bucket. Give the whole URL."
        )


def _has_user(url: str) -> bool:
    """Return whether a user or password is in a URL; they may contain "/", "?" and "#"."""
    place = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    # In Azure's URLs, the container stands before the name of the account.
    is_azure = url.lower().startswith(("abfs://", "abfss://"))
    # Servers have ports, and addresses in brackets. Buckets have no colon.
    is_bucket = protocol_of(url) in ("s3", "gs", "abfs")
    is_place = re.fullmatch(r"[^:]*" if is_bucket else r"(\[[^]]*\]|[^:]*)(:\d*)?", place)
    return place.count("@") > is_azure or is_place is None


def canonical_url(url: str) -> str:
    """Return a URL that is equal for two URLs of one place."""
    protocol = protocol_of(url)
    place, _, path = url.partition("://")[2].partition("/")
    if protocol in ("http", "https"):
        place = place.lower()
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/".join([f"{protocol}://{place}", *parts])


def absolute_location(location: str) -> str:
    """Return the resolved path, or a URL, which is equal for two names of one place."""
    if not is_url(location):
        return str(Path(location).resolve())
    # An account of Azure has several servers.
    return re.sub(r"^(abfs://[^/@]*@[^/.]*)[^/]*", r"\1", canonical_url(location))


def do_overlap(one: str, other: str) -> bool:
    """Return whether one of two absolute locations is inside the other, or they are the same."""
    if ("@" in one) != ("@" in other):  # some URLs of Azure leave the account to the options
        one, other = (re.sub("^(abfs://[^/@]*)@[^/]*", r"\1", place) for place in (one, other))
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def join_url(url: str, path: str) -> str:
    return f"{url.rstrip('/')}/{path}" if path not in ("", ".") else url.rstrip("/")


def is_file_path(name: str) -> bool:
    return all(part not in ("", ".", "..") for part in name.split("/")) and "\0" not in name
