"""Files on disk or at URLs, as audits read them: with PyArrow and the drivers of fsspec."""

import hashlib
import json
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from margin_cache.audit.verdict import Options
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.object_store import without_user
from margin_cache.storage.urls import is_url

PROPERTIES = ("hats.properties", "properties")

_HTTP = ("http", "https")


class UnreadableFile(MarginCacheError):
    """A file of a catalog is missing or damaged; no request has failed."""


def open_location(location: str, options: Options = None) -> UPath:
    """Return a path or URL as an object like a path, with the options of its store."""
    if not is_url(location):
        return UPath(location)
    try:
        path = UPath(location)
        path = UPath(location, **_driver_options(path.protocol, options or {}))
        path.fs.invalidate_cache()
    except Exception as error:  # drivers raise errors of any type
        raise MarginCacheError(f"{location}: cannot be opened ({_reason(error)}).") from error
    return path


def _driver_options(protocol: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as fsspec's drivers take them, where making margins accepts others too."""
    values = dict(options)
    if protocol in ("s3", "s3a"):
        moved = {name: values.pop(name) for name in ("region_name", "verify") if name in values}
        if moved:
            values["client_kwargs"] = {**values.get("client_kwargs", {}), **moved}
    if protocol in _HTTP:
        values.pop("anon", None)
        verify = values.pop("verify", True)
        if verify is not True:
            values["ssl"] = ssl.create_default_context(cafile=verify) if verify else False
    if protocol in ("gs", "gcs") and values.pop("anon", False):
        values["token"] = "anon"
    return values


def is_local(path: UPath) -> bool:
    return path.protocol in ("", "file")


@contextmanager
def open_parquet(path: UPath) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; errors while it is open name it."""
    try:
        if is_local(path):
            with pq.ParquetFile(str(path)) as file:
                yield file
        else:
            # Only the ranges of the columns are read.
            with (
                path.fs.open(path.path, "rb", cache_type="none") as stream,
                pq.ParquetFile(stream, pre_buffer=True) as file,
            ):
                yield file
    except MarginCacheError:
        raise
    except Exception as error:  # drivers raise errors of any type
        if is_local(path) and not isinstance(error, (OSError, ValueError, pa.ArrowException)):
            raise
        if not is_local(path) and _is_transient(path, error):
            raise _failed(path, error) from error
        raise UnreadableFile(f"{path}: cannot be read: {error}") from error


def read_bytes(path: UPath, size: int | None = None) -> bytes | None:
    """Return the content of a small file, or its first bytes; None if there is none."""
    try:
        if is_local(path):
            return bytes(path.read_bytes()[:size])
        content = bytes(path.fs.cat_file(path.path, start=0 if size else None, end=size))
    except Exception as error:  # drivers raise errors of any type
        if is_local(path) and not isinstance(error, OSError):
            raise
        if not is_local(path) and _is_transient(path, error):
            raise _failed(path, error) from error
        return None
    # Some servers send a page that says that there is no such file.
    return None if content.lstrip().startswith(b"<") else content


def read_json(path: UPath) -> dict[str, Any]:
    """Return the object in a JSON file; {} if there is none, or something else."""
    try:
        values = json.loads(read_bytes(path) or b"")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def is_there(path: UPath) -> bool:
    """Return whether there is an optional file."""
    return bool(path.exists()) if is_local(path) else read_bytes(path, 64) is not None


def names_below(directory: UPath) -> list[str]:
    """Return the names of all files below a directory, relative to it."""
    if is_local(directory):
        walk = os.walk(str(directory), followlinks=True)
        paths = (Path(place, name) for place, _, names in walk for name in names)
        return [str(path.relative_to(str(directory))) for path in paths]
    if directory.protocol in _HTTP:
        raise PermissionError
    root = directory.path.strip("/") + "/"
    found = (name.lstrip("/") for name in directory.fs.find(directory.path))
    # Names with a slash at the end stand for directories.
    return [name.removeprefix(root) for name in found if name.startswith(root) and name[-1] != "/"]


def download_files(path: UPath, names: Sequence[str], directory: str) -> set[str]:
    """Copy those of some small files that exist into a directory; return their names."""
    found = {name: content for name in names if (content := read_bytes(path / name)) is not None}
    for name, content in found.items():
        Path(directory, name).write_bytes(content)
    return set(found)


def state_at_url(location: str, options: Options = None) -> str:
    """Return a digest of the names, sizes and versions of all files at a URL.

    Where a server does not list its files, as those of http, it is a digest of the metadata.
    """
    path = open_location(location, options)
    try:
        files = None if path.protocol in _HTTP else path.fs.find(path.path, detail=True)
    except PermissionError:
        files = None
    except Exception as error:  # drivers raise errors of any type
        raise MarginCacheError(f"{location}: cannot be read ({_reason(error)}).") from error
    if files is None:
        names = ("catalog_info.json", *PROPERTIES, "provenance_info.json", "partition_info.csv")
        values = [read_bytes(path / name) for name in names]
        state = b"/".join(hashlib.blake2b(value or b"").digest() for value in values)
    else:
        keys = ("size", "ETag", "etag", "md5Hash", "mtime", "last_modified", "LastModified")
        state = repr(
            [(name, [str(files[name].get(key)) for key in keys]) for name in sorted(files)]
        ).encode()
    return hashlib.blake2b(state, digest_size=16).hexdigest()


def _is_transient(path: UPath, error: BaseException) -> bool:
    """Return whether a request has failed, which says nothing about the file."""
    if path.protocol in _HTTP and error.__cause__ is not None:
        error = error.__cause__  # the driver says for all failures that there is no such file
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return False
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if isinstance(error, OSError):
        return error.errno is not None  # PyArrow's errors about damaged files have none
    return not isinstance(error, (ValueError, pa.ArrowException))


def _failed(path: UPath, error: Exception) -> RetryableError:
    reason = _reason(error.__cause__ or error)
    return RetryableError(f"{path}: a request failed ({reason}). Start the audit again.")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {without_user(str(error))}".removesuffix(": ")
