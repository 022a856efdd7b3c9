"""S3, Google Cloud Storage, Azure and web servers, with obstore."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.object_store import (
    ObjectChanged,
    ObjectState,
    ObjectStore,
    PermissionDenied,
    PreconditionFailed,
    decompressed,
    files_among,
    parallel,
    permission_denied,
    without_user,
)
from margin_cache.storage.store_options import StoreOptions, add_netrc, translate
from margin_cache.storage.urls import protocol_of

Result = TypeVar("Result")

PROTOCOLS = ("s3", "gs", "abfs", "http", "https")

_TRIES = 8

RETRIES = {
    "max_retries": _TRIES - 1,
    "backoff": {
        "init_backoff": timedelta(seconds=0.1),
        "max_backoff": timedelta(seconds=20),
        "base": 2,
    },
    "retry_timeout": timedelta(minutes=10),
}

_CLIENT = {"connect_timeout": "30s", "read_timeout": "60s", "timeout": "1h"}
"""Limits of a request: to connect, between two packets of the answer, and in all."""

_LARGE_BYTES = 8 << 20
"""Larger objects may take longer to send than the limit between two packets allows."""

_MULTIPART_BYTES = 4 << 30
"""Larger objects cannot be written by one request."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')
_WRONG_RANGE = re.compile(r"Range request not supported|Requested \d|Content-Length Header missing")
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class ObstoreStore(ObjectStore):
    """S3, Google Cloud Storage or Azure."""

    _has_conditions = True

    def __init__(self, url: str, side: str, make: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(url)
        self._side = side
        self._store = make(_CLIENT)
        self._make = make

    def list(self) -> dict[str, ObjectState] | None:
        try:
            found = self._call("", lambda: obstore.list(self._store).collect())
        except (PermissionDeniedError, UnauthenticatedError, InvalidPathError):
            # Many public buckets cannot be listed, and obstore lists no names with an empty part.
            return None
        return files_among({meta["path"]: _state_of(meta) for meta in found})

    def state(self, path: str) -> ObjectState | None:
        return self._found(path, lambda: _state_of(obstore.head(self._store, path)))

    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        def get() -> tuple[bytes, ObjectState]:
            answer = obstore.get(self._store, path)
            state, encoding = _state_of(answer.meta), answer.attributes.get("Content-Encoding")
            return decompressed(bytes(answer.bytes()), encoding), state

        return self._found(path, get)

    def read_range(self, path: str, start: int, end: int, state: ObjectState) -> memoryview:
        def get() -> memoryview:
            answer = obstore.get(self._store, path, options={"range": (start, end)})
            if _state_of(answer.meta) != state:
                raise ObjectChanged(self.url_of(path))
            return memoryview(answer.bytes())

        if end <= start:
            return memoryview(b"")
        content = self._found(path, lambda: _again_if_wrong(get))
        if content is None or len(content) != end - start:
            raise ObjectChanged(self.url_of(path))
        return content

    def put(
        self,
        path: str,
        content: bytes | Path,
        *,
        if_absent: bool = False,
        if_match: ObjectState | None = None,
    ) -> ObjectState:
        if (if_absent or if_match) and not self._has_conditions:
            if self.state(path) != if_match:
                raise PreconditionFailed(self.url_of(path))
            if_absent, if_match = False, None
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        store = self._store
        if size > _LARGE_BYTES:
            store = self._make({name: _CLIENT[name] for name in ("connect_timeout", "timeout")})
        mode: Any = "create" if if_absent else "overwrite"
        if if_match is not None:
            mode = self._version(path, if_match)
        try:
            done = self._call(
                path,
                lambda: obstore.put(
                    store, path, content, mode=mode, use_multipart=size > _MULTIPART_BYTES
                ),
                "written",
            )
        except (AlreadyExistsError, PreconditionError):
            raise PreconditionFailed(self.url_of(path)) from None
        except FileNotFoundError:
            raise self._no_bucket() from None
        except _Refused as error:
            if mode == "overwrite" or "status 501" not in str(error):
                raise
            self._has_conditions = False
            return self.put(path, content, if_absent=if_absent, if_match=if_match)
        return ObjectState(size, _bare(done["e_tag"]))

    def delete(self, paths: Iterable[str]) -> None:
        def delete(path: str) -> None:
            self._found(path, lambda: obstore.delete(self._store, path), "deleted")

        parallel(delete, paths)

    def _version(self, path: str, state: ObjectState) -> dict[str, str]:
        """Return what obstore needs to replace an object: Google asks for its generation."""
        meta = self._found(path, lambda: obstore.head(self._store, path))
        if meta is None or _state_of(meta) != state:
            raise PreconditionFailed(self.url_of(path))
        return {name: value for name in ("e_tag", "version") if (value := meta[name])}

    def _found(self, path: str, call: Callable[[], Result], action: str = "read") -> Result | None:
        """Return the result of a request; None if there is no such object."""
        try:
            return self._call(path, call, action)
        except FileNotFoundError:
            return None

    def _call(self, path: str, call: Callable[[], Result], action: str = "read") -> Result:
        """Make a request, and turn errors into a message of one line.

        Some errors remain: of missing objects, of conditions, and of a listing that is refused.
        """
        url = self.url_of(path)
        try:
            return call()
        except (PermissionDeniedError, UnauthenticatedError):
            if path:
                raise permission_denied(url, self._side) from None
            raise
        except (AlreadyExistsError, PreconditionError, InvalidPathError):
            raise
        except FileNotFoundError as error:
            if "status code: 405" in str(error):
                raise self._readable(url, str(error), action) from None
            raise
        except BaseError as error:
            if "status code: 410" in str(error):
                raise FileNotFoundError from None
            raise self._readable(url, str(error), action) from None

    def _readable(self, url: str, text: str, action: str) -> MarginCacheError:
        """Return the error of a request, without what the store has sent beside its status."""
        status, code = _STATUS.search(text), _CODE.search(text)
        if code and code[1] in ("NoSuchBucket", "ContainerNotFound"):
            return self._no_bucket()
        if "169.254.169.254" in text or "metadata.google.internal" in text:
            # Without other credentials, those of a virtual machine are asked for.
            return permission_denied(url, self._side)
        if status and int(status[1]) == 416:
            return ObjectChanged(url)
        if status and int(status[1]) not in _TRANSIENT_STATUS:
            reason = f"status {status[1]}{f', {code[1]}' if code else ''}"
            return _Refused(f"{url}: cannot be {action} ({reason}). Check the URL.")
        if _WRONG_RANGE.search(text):
            return RetryableError(
                f"{url}: the server ignores range requests, compresses files on their way or sends "
                "no Content-Length, so parts of files cannot be read. Use another server, or a "
                "local copy."
            )
        cause = _CAUSE.search(text)
        reason = cause[1] if cause else "no complete answer"
        if status:
            reason = f"status {status[1]}"
        return RetryableError(
            f"{url}: failed {_TRIES} times ({without_user(reason)}). Check the URL and the server."
        )

    def _no_bucket(self) -> MarginCacheError:
        key = "input_catalog_path" if self._side == "input" else "output_path"
        return MarginCacheError(f"{key}: the bucket of {self.url} does not exist.")


class _Refused(MarginCacheError):
    """The server answers with a status that is no success."""


class HttpStore(ObstoreStore):
    """A web server."""

    _head_works = True

    def list(self) -> dict[str, ObjectState] | None:
        return None

    def state(self, path: str) -> ObjectState | None:
        if self._head_works:
            try:
                return self._found(path, lambda: self._state(path, {"head": True}))
            except (PermissionDenied, _Refused):
                pass  # some servers answer GET only
        state = self._found(path, lambda: self._state(path, {"range": (0, 1)}))
        self._head_works = False
        return state

    def _state(self, path: str, options: Any) -> ObjectState | None:
        answer = obstore.get(self._store, path, options=options)
        if answer.attributes.get("Content-Type", "").startswith("text/html"):
            return None  # a page that says that there is no such file
        return _state_of(answer.meta)

    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        found = super().read(path)
        # No file of a catalog is a page, but many servers send one instead of an error.
        return None if found is None or found[0].lstrip()[:1] == b"<" else found


def _again_if_wrong(get: Callable[[], Result]) -> Result:
    """Repeat a request if the server has sent another range, which obstore does not do."""
    for _ in range(_TRIES - 1):
        try:
            return get()
        except BaseError as error:
            if not _WRONG_RANGE.search(str(error)):
                raise
    return get()


def connect(url: str, options: Mapping[str, Any], side: str) -> ObstoreStore:
    """Return the store of the objects below a URL; see `object_store.connect`."""
    protocol = protocol_of(url)
    is_web = protocol in ("http", "https")
    translated = translate(protocol, options, side)
    config, own_client = translated.config, translated.client
    parts = urlsplit(url)
    prefix = parts.path.strip("/") or None
    extra: dict[str, Any] = {}
    if is_web:
        add_netrc(translated, url)
        headers = own_client.setdefault("default_headers", {})
        headers.setdefault("Accept-Encoding", "identity")
    elif protocol == "s3":
        extra = _amazon(parts.netloc, translated)
    elif protocol == "abfs":
        _azure(parts.netloc, config)
    address = config.get("base_url" if protocol == "gs" else "endpoint", url)
    if str(address).startswith("http://"):
        own_client["allow_http"] = True

    def make(client: dict[str, Any]) -> Any:
        common: dict[str, Any] = {
            "client_options": {**client, **own_client},
            "retry_config": RETRIES,
        }
        if is_web:
            return HTTPStore(url.rstrip("/"), **common)
        common |= {"prefix": prefix, "config": config, **extra}
        if protocol == "s3":
            return S3Store(parts.netloc, **common)
        if protocol == "gs":
            return GCSStore(parts.netloc, **common)
        return AzureStore(parts.netloc.partition("@")[0], **common)

    try:
        return (HttpStore if is_web else ObstoreStore)(url, side, make)
    except (BaseError, TypeError, ValueError) as error:
        raise MarginCacheError(
            f"{side}_storage_options: cannot be used for {url} ({type(error).__name__}; the values "
            "are not shown, because they may be secret)."
        ) from None


def _amazon(bucket: str, options: StoreOptions) -> dict[str, Any]:
    """Complete the options of S3: credentials from the usual files, and the bucket's region."""
    config, extra = options.config, {}
    has_key = "access_key_id" in config or (
        "AWS_ACCESS_KEY_ID" in os.environ and options.profile is None
    )
    if not has_key and not config.get("skip_signature"):
        # Slow to import, and not needed for most catalogs.
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        session = Session(profile=options.profile)
        try:
            credentials = session.get_credentials()
            profile = session.get_scoped_config()
        except BotoCoreError as error:
            raise MarginCacheError(
                f"s3://{bucket}: no credentials ({without_user(str(error))})."
            ) from None
        for name in ("region", "endpoint_url"):
            if name in profile:
                config.setdefault(name.removesuffix("_url"), profile[name])
        if credentials is not None:

            def renewed() -> Any:
                now = credentials.get_frozen_credentials()
                return {
                    "access_key_id": now.access_key,
                    "secret_access_key": now.secret_key,
                    "token": now.token,
                    "expires_at": datetime.now(UTC) + timedelta(minutes=5),
                }

            extra["credential_provider"] = renewed
    in_environment = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((os.environ[name] for name in in_environment if name in os.environ), None)
    if endpoint:
        config.setdefault("endpoint", endpoint)
    if "endpoint" not in config and (region := _region_of(bucket)):
        config["region"] = region
    return extra


def _region_of(bucket: str) -> str | None:
    """Ask Amazon for the region of a bucket, which it tells everyone."""
    request = Request(f"https://s3.amazonaws.com/{bucket}", method="HEAD")
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.headers.get("x-amz-bucket-region")
    except HTTPError as error:
        return error.headers.get("x-amz-bucket-region")
    except OSError:
        return None


def _azure(place: str, config: dict[str, Any]) -> None:
    """Complete the options of Azure by the account that a URL can have."""
    _, _, host = place.partition("@")
    if host:
        config.setdefault("account_name", host.partition(".")[0])
    connection = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection and not {"account_name", "account_key", "sas_key"} & config.keys():
        config.update(translate("abfs", {"connection_string": connection}, "input").config)


def _state_of(meta: Any) -> ObjectState:
    etag = meta["e_tag"] or meta["last_modified"].isoformat()
    return ObjectState(int(meta["size"]), _bare(etag))


def _bare(etag: str | None) -> str:
    """Return an ETag without its quotes, which some stores leave out in listings."""
    etag = etag or ""
    return etag[1:-1] if etag[:1] == etag[-1:] == '"' else etag
