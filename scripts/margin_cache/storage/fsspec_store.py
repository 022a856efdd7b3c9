"""Stores that obstore does not reach, for reading, with the drivers of fsspec: hf://, sftp://."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.object_store import (
    ObjectChanged,
    ObjectState,
    ObjectStore,
    files_among,
    permission_denied,
    without_user,
)
from margin_cache.storage.urls import protocol_of

Result = TypeVar("Result")

_ETAG_NAMES = ("ETag", "etag", "e_tag", "blob_id", "md5Hash", "generation", "content_md5")
_TIME_NAMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""Names that drivers use, the preferred one first."""


class FsspecStore(ObjectStore):
    """Drivers do not tell which version a range was read from, so the state is asked for again."""

    def __init__(self, url: str, options: Mapping[str, Any], side: str = "input") -> None:
        super().__init__(url)
        self._side = side
        self._system = _driver(self.url, options, side)
        self._root = str(self._system._strip_protocol(self.url)).rstrip("/")

    def list(self) -> dict[str, ObjectState] | None:
        def ask() -> Mapping[str, Any] | None:
            try:
                return self._system.find(self._root, detail=True)
            except (NotImplementedError, PermissionError, FileNotFoundError):
                return None

        infos = self._ask("", ask)
        if infos is None:
            return None
        found = {
            name[len(self._root) + 1 :]: _state_of(info)
            for name, info in infos.items()
            if name.startswith(f"{self._root}/")
        }
        name = next(iter(found), None)
        if name is not None and self.state(name) != found[name]:
            # The driver's listing has other fields than its `info`, which is compared with later.
            found = self.states(found)
        return files_among(found)

    def state(self, path: str) -> ObjectState | None:
        def ask() -> ObjectState | None:
            info = self._system.info(f"{self._root}/{path}")
            return _state_of(info) if info.get("type", "file") == "file" else None

        try:
            return self._ask(path, ask)
        except FileNotFoundError:
            return None

    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        state = self.state(path)
        return (
            None if state is None else (bytes(self.read_range(path, 0, state.size, state)), state)
        )

    def read_range(self, path: str, start: int, end: int, state: ObjectState) -> memoryview:
        def ask() -> bytes:
            return self._system.cat_file(f"{self._root}/{path}", start=start, end=end)

        if end <= start:
            return memoryview(b"")
        try:
            content = self._ask(path, ask)
        except FileNotFoundError:
            raise ObjectChanged(self.url_of(path)) from None
        if self.state(path) != state or len(content) != end - start:
            raise ObjectChanged(self.url_of(path))
        return memoryview(content)

    def _ask(self, path: str, request: Callable[[], Result]) -> Result:
        url = self.url_of(path)
        try:
            return request()
        except FileNotFoundError:
            raise
        except PermissionError:
            raise permission_denied(url, self._side) from None
        except Exception as error:  # of a driver, which can be any
            kind = RetryableError if isinstance(error, OSError | EOFError) else MarginCacheError
            reason = f"{type(error).__name__}: {without_user(str(error))}"
            raise kind(f"{url}: cannot be read ({reason}). Check the URL and the server.") from None


def _driver(url: str, options: Mapping[str, Any], side: str) -> Any:
    """Return fsspec's file system of a URL."""
    import fsspec

    key = "input_catalog_path" if side == "input" else "output_path"
    try:
        driver = fsspec.get_filesystem_class(protocol_of(url))
    except (ImportError, ValueError) as error:
        raise MarginCacheError(f"{key}: {url}: {error}.") from None
    try:
        # Some drivers connect at once, to the server in the URL.
        address = driver._get_kwargs_from_urls(url)
        own = {"skip_instance_cache": True, "use_listings_cache": False}
        return driver(**{**own, **address, **options})
    except Exception as error:  # of a driver, which can be any
        raise MarginCacheError(
            f"{key}: {url}: cannot connect ({type(error).__name__}). Check the URL, the server and "
            f"{side}_storage_options, whose values are not shown."
        ) from None


def _state_of(info: Mapping[str, Any]) -> ObjectState:
    values = (info.get(name) for name in (*_ETAG_NAMES, *_TIME_NAMES))
    etag = next((value for value in values if value is not None), "")
    if isinstance(etag, datetime):
        etag = etag.timestamp()
    return ObjectState(int(info["size"] or 0), str(etag))
