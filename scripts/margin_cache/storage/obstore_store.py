"""S3, Google Cloud Storage, Azure and web servers, with obstore.

Storage options are those of fsspec's drivers, which have a dictionary of options each, and are
translated for obstore. An option that is in no table is refused, because without it another object
might be read, or with other credentials.
"""

import base64
import json
import netrc
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage.object_store import (
    ObjectChanged,
    ObjectState,
    ObjectStore,
    PermissionDenied,
    PreconditionFailed,
    files_among,
    interruptible,
    parallel,
    without_user,
)
from margin_cache.storage.urls import canonical_url, protocol_of

Result = TypeVar("Result")

_BUCKETS: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "abfs": AzureStore}
PROTOCOLS = (*_BUCKETS, "http", "https")

_TRIES = 8
_BACKOFF = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=20), "base": 2}
RETRIES = {"max_retries": _TRIES - 1, "backoff": _BACKOFF, "retry_timeout": timedelta(minutes=10)}

_CLIENT = {"connect_timeout": "30s", "read_timeout": "60s", "timeout": "1h"}
"""Limits of a request: to connect, between two packets of the answer, and in all."""

_WITHOUT_READ_TIMEOUT = {name: _CLIENT[name] for name in ("connect_timeout", "timeout")}

_LARGE_BYTES = 8 << 20  # larger objects may take longer to send than ``read_timeout``

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r'<Code>(\w+)</Code>|\bcode: "(\w+)"')
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')
_WRONG_RANGE = re.compile(
    r"Range request not supported|non-partial response|Content-Range header not present|"
    r"Requested \d|Content-Length Header missing"
)
# obstore does not repeat conditional writes and deletions that get no answer, nor requests for
# anything but objects whose answer is cut short. If it has, the number of tries stands before this.
_NOT_REPEATED = re.compile(r"(?:body:|s -) HTTP error: ")
# Without other credentials, obstore asks for those of a virtual machine.
_NO_CREDENTIALS = re.compile(
    r"169\.254\.169\.254|metadata\.google\.internal|<Code>ExpiredToken<|"
    r"performing token request(?s:.*) status code: 4"
)
_NEEDED = {
    "s3": "key and secret",
    "gs": "token",
    "abfs": "account_key, sas_token, or tenant_id, client_id and client_secret",
}
_MISSING = re.compile(
    r"Missing \w+|Account must be specified|missing field `\w+`|Invalid Access Key|"
    r"Unable to open service account file"
)
_WRONG = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed"}
"""Codes of errors because of credentials that the store does not know."""

_REASONS = {
    **dict.fromkeys(("InvalidObjectState", "BlobArchived"), "it is archived. Restore it first"),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed"),
        "the bucket is in another region. Give its region_name, and no endpoint_url of another",
    ),
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}
"""What codes of errors mean, and what to do."""

_TRANSIENT_STATUS = {"408", "425", "429", "500", "502", "503", "504"}


class ObstoreStore(ObjectStore):
    """S3, Google Cloud Storage, Azure or a web server; `make` returns obstore's for some limits."""

    _has_conditions = True

    def __init__(self, url: str, side: str, make: Callable[[Mapping[str, str]], Any]) -> None:
        super().__init__(url)
        self._side = side
        self._make = make
        self._store = make(_CLIENT)
        self._is_web = isinstance(self._store, HTTPStore)

    def list(self) -> dict[str, ObjectState] | None:
        if not self._is_web:
            # Many public buckets cannot be listed, and obstore lists no names with an empty part.
            with suppress(exceptions.InvalidPathError):
                try:
                    return files_among(self._request("", self._listed) or {})
                except PermissionDenied:
                    if self._side == "output":
                        raise
        return None

    def _listed(self) -> dict[str, ObjectState]:
        found: dict[str, ObjectState] = {}
        for metas in obstore.list(self._store, chunk_size=1000):
            states = {meta["path"]: _state_of(meta) for meta in metas}
            if not found.keys().isdisjoint(states):  # some servers send the first page for ever
                raise MarginCacheError(f"{self.url}: the store lists the same objects again.")
            found |= states
        return found

    def state(self, path: str) -> ObjectState | None:
        answer = self._request(path, lambda: obstore.get(self._store, path, options={"head": True}))
        # Some web servers send a page that says that there is no such file.
        if answer is None or answer.attributes.get("Content-Type", "").startswith("text/html"):
            return None
        return _state_of(answer.meta)

    def read(self, path: str) -> tuple[bytes, ObjectState] | None:
        if (found := self._request(path, lambda: self._get(path, {}))) is None:
            return None
        content = bytes(found[0])
        is_page = self._is_web and content.lstrip()[:1] == b"<"  # no file of a catalog is one
        return None if is_page else (content, found[1])

    def read_range(self, path: str, start: int, end: int, state: ObjectState) -> memoryview:
        if end <= start:
            return memoryview(b"")
        found = self._request(path, lambda: self._get(path, {"range": (start, end)}))
        if found is None or found[1] != state or len(found[0]) != end - start:
            raise ObjectChanged(self.url_of(path))
        return found[0]

    def _get(self, path: str, options: Any) -> tuple[memoryview, ObjectState]:
        answer = obstore.get(self._store, path, options=options)
        return memoryview(answer.bytes()), _state_of(answer.meta)

    def _put(self, path: str, content: bytes | Path, replaced: ObjectState | None) -> ObjectState:
        mode: Any = "create"
        if replaced is not None or not self._has_conditions:
            mode = self._version(path, replaced)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        store = self._store if size <= _LARGE_BYTES else self._make(_WITHOUT_READ_TIMEOUT)

        def put() -> Any:
            return obstore.put(store, path, content, mode=mode, use_multipart=False)

        try:
            done = self._request(path, put, "written")
        except MarginCacheError as error:
            if mode == "overwrite" or "status 501" not in str(error):
                raise
            self._has_conditions = False
            return self._put(path, content, replaced)
        if done is None:
            raise _no_bucket(self.url)
        return ObjectState(size, _bare(done["e_tag"]))

    def _version(self, path: str, replaced: ObjectState | None) -> Any:
        """Return what obstore needs to replace an object: Google asks for its generation."""
        meta: Any = self._request(path, lambda: obstore.head(self._store, path))
        if (meta and _state_of(meta)) != replaced:
            raise PreconditionFailed(self.url_of(path))
        if not self._has_conditions:
            return "overwrite"
        return {name: value for name in ("e_tag", "version") if (value := meta[name])}

    def delete(self, paths: Iterable[str]) -> None:
        def delete(path: str) -> None:
            self._request(path, lambda: obstore.delete(self._store, path), "deleted")

        parallel(delete, paths)

    def _request(
        self, path: str, call: Callable[[], Result], action: str = "read"
    ) -> Result | None:
        """Return what a request returns; None if there is no such object.

        It is repeated after failures that obstore does not repeat. Errors are messages of one line.
        """
        url, tries = self.url_of(path), 0
        while True:
            tries += 1
            try:
                return interruptible(call)
            except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
                raise self._error_of(url, str(error), action, is_denied=True) from None
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
                if action == "read":
                    raise self._error_of(url, str(error), action) from None
                raise PreconditionFailed(url) from None
            except exceptions.InvalidPathError:
                raise
            except (exceptions.BaseError, FileNotFoundError) as error:
                text = str(error)
                if tries < _TRIES and (_WRONG_RANGE.search(text) or _NOT_REPEATED.search(text)):
                    continue
                # obstore takes 405, an answer to HEAD, for missing, and 410 for another error.
                is_missing = isinstance(error, FileNotFoundError) and "code: 405" not in text
                if is_missing or "code: 410" in text:
                    return None
                raise self._error_of(url, text, action) from None
            except BaseException as error:
                if type(error).__name__ == "PanicException":  # of obstore; no name to import
                    raise _unusable(url, self._side, error) from None
                raise

    def _error_of(
        self, url: str, text: str, action: str, is_denied: bool = False
    ) -> MarginCacheError:
        """Return the error of a request, without what the store has sent beside its codes."""
        found, code = _STATUS.search(text), _code_of(text)
        status = found[1] if found else ""
        if code in ("NoSuchBucket", "ContainerNotFound"):
            return _no_bucket(self.url)
        if code in _REASONS:
            return MarginCacheError(f"{url}: cannot be {action}: {_REASONS[code]}.")
        if not self._is_web and _NO_CREDENTIALS.search(text):
            reason = f"credentials are missing or have expired ({_NEEDED[protocol_of(url)]})"
            return PermissionDenied(url, self._side, reason)
        if code in _WRONG:
            return PermissionDenied(url, self._side, f"the credentials are wrong ({code})")
        # obstore has an error of its own for a refused object, but not for a refused list.
        if is_denied or status in ("401", "403") or code == "AccessDenied":
            reason = f"permission denied, it cannot be {action}"
            return PermissionDenied(url, self._side, "" if action == "read" else reason)
        if status == "416":
            return ObjectChanged(url)
        if status and status not in _TRANSIENT_STATUS:
            reason = f"status {status}{code and f', {code}'}"
            return MarginCacheError(f"{url}: cannot be {action} ({reason}). Check the URL.")
        if _WRONG_RANGE.search(text):
            return RetryableError(
                f"{url}: the server ignores range requests, compresses files on their way or sends "
                "no Content-Length, so parts of files cannot be read. Use another server, or a "
                "local copy."
            )
        cause = _CAUSE.search(text)
        reason = cause[1] if cause else "no complete answer"
        reason = f"status {status}" if status else code or without_user(reason)
        return RetryableError(
            f"{url}: failed {_TRIES} times ({reason}). Check the URL and the server."
        )


def _code_of(text: str) -> str:
    """Return the store's code for an error, "" if there is none."""
    if "redirect without LOCATION" in text:
        return "PermanentRedirect"
    found = _CODE.search(text)
    return found[1] or found[2] if found else ""


def _unusable(url: str, side: str, error: BaseException) -> MarginCacheError:
    known = _MISSING.search(str(error))
    reason = known[0] if known else "a value is not valid or has a line break in it"
    return MarginCacheError(
        f"{url}: the store cannot be used ({reason}). Check the URL, {side}_storage_options, and "
        "credentials in the environment and in the usual files. No value is shown, because it may "
        "be secret."
    )


def _no_bucket(url: str) -> MarginCacheError:
    return MarginCacheError(f"{url}: the bucket does not exist. Check the URL.")


def _state_of(meta: Any) -> ObjectState:
    time = meta["last_modified"]
    # Servers that do not tell it have the year 1970.
    etag = meta["e_tag"] or (time.isoformat() if time.timestamp() else "")
    return ObjectState(int(meta["size"]), _bare(etag))


def _bare(etag: str | None) -> str:
    """Return an ETag without quotes and without "W/", which some stores leave out in listings."""
    etag = (etag or "").removeprefix("W/")
    return etag[1:-1] if etag[:1] == etag[-1:] == '"' else etag


def _verify(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"root_certificate": Path(value).read_bytes()}
    return {"allow_invalid_certificates": not value}


def _google_token(value: Any) -> dict[str, Any]:
    if value == "anon":
        return {"skip_signature": True}
    if isinstance(value, Mapping):
        return {"service_account_key": json.dumps(dict(value))}
    if value in (None, "google_default", "cloud", "cache"):
        return {}
    file = Path(str(value)).expanduser()
    if not file.is_file():
        raise ValueError("no such file")
    return {"application_credentials": str(file)}


def _connection_string(value: Any) -> dict[str, Any]:
    parts = dict(part.split("=", 1) for part in str(value).split(";") if part)
    names = {
        "AccountName": "account_name",
        "AccountKey": "account_key",
        "SharedAccessSignature": "sas_key",
        "BlobEndpoint": "endpoint",
    }
    found = {names[name]: parts[name] for name in names if name in parts}
    if "endpoint" in found:  # one with a signature has no AccountName
        found["endpoint"] = found["endpoint"].rstrip("/")
        host = urlsplit(found["endpoint"]).hostname or ""
        found.setdefault("account_name", host.partition(".")[0])
    elif "EndpointSuffix" in parts and "account_name" in found:
        found["endpoint"] = f"https://{found['account_name']}.blob.{parts['EndpointSuffix']}"
    return found


_Target = str | None | Callable[[Any], dict[str, Any]]
"""An option of obstore, None for what is done anyway, or a function that returns such options."""

_TABLES: dict[str, dict[str, _Target]] = {
    "s3": {
        **dict.fromkeys(("key", "username", "aws_access_key_id"), "access_key_id"),
        **dict.fromkeys(("secret", "password", "aws_secret_access_key"), "secret_access_key"),
        **dict.fromkeys(("token", "aws_session_token"), "session_token"),
        "anon": "skip_signature",
        "endpoint_url": "endpoint",
        "region_name": "region",
        "config_kwargs.s3.addressing_style": lambda style: {
            "virtual_hosted_style_request": {"path": False, "auto": False, "virtual": True}[style]
        },
        "requester_pays": "request_payer",
        "profile": "profile",
        "use_ssl": None,  # the URL of the endpoint says so
        "verify": _verify,
    },
    "gs": {
        "anon": "skip_signature",
        "token": _google_token,
        "endpoint_url": "base_url",
        "requester_pays": lambda value: (
            {"default_headers": {"x-goog-user-project": value}} if isinstance(value, str) else {}
        ),
        "project": None,  # is needed for lists of buckets only
        "verify": _verify,
    },
    "abfs": {
        **{name: name for name in ("account_name", "account_key")},
        **{name: name for name in ("tenant_id", "client_id", "client_secret")},
        "anon": "skip_signature",
        "sas_token": "sas_key",
        "connection_string": _connection_string,
        "account_host": lambda host: {"endpoint": f"https://{host}"},
        "endpoint_url": lambda url: {"endpoint": url.rstrip("/")},
        "verify": _verify,
    },
    "http": {
        "headers": lambda headers: {
            "default_headers": {str(k): str(v) for k, v in headers.items()}
        },
        "trust_env": None,  # proxies of the environment are always used
        "verify": _verify,
    },
}

_CREDENTIALS = ("access_key_id", "secret_access_key", "token")
_OF_CLIENT = ("default_headers", "root_certificate", "allow_invalid_certificates")  # of all stores


def translate(protocol: str, options: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Translate fsspec's storage options for a protocol; values are never shown."""
    table = _TABLES["http" if protocol == "https" else protocol]
    translated: dict[str, Any] = {}
    for name, value in flat_options(options):
        known = name.removeprefix("client_kwargs.")
        if known not in table:
            raise MarginCacheError(
                f"{side}_storage_options: {name} is not an option for {protocol}://. "
                f"Known are {', '.join(sorted(table))}."
            )
        target = table[known]
        try:
            if isinstance(value, str) and not value.isprintable():
                raise ValueError
            if isinstance(target, str):
                translated[target] = value
            elif target is not None:
                translated |= target(value)
        except (AttributeError, KeyError, OSError, TypeError, ValueError):
            raise MarginCacheError(
                f"{side}_storage_options: the value of {name} is not valid (it is not shown, "
                "because it may be secret)."
            ) from None
    return translated


def flat_options(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values of options; one inside another has a name like `s3.region_name`."""
    for name, value in options.items():
        if name in ("client_kwargs", "config_kwargs", "s3") and isinstance(value, Mapping):
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def connect(url: str, options: Mapping[str, Any], side: str) -> ObstoreStore:
    """Return the store of the objects below a URL; see `object_store.connect`."""
    protocol, parts = protocol_of(url), urlsplit(canonical_url(url))
    config = translate(protocol, options, side)
    client = {name: config.pop(name) for name in _OF_CLIENT if name in config}
    credentials: dict[str, Any] = {}
    if ("access_key_id" in config) != ("secret_access_key" in config):
        # obstore would take the other one from the environment.
        missing = "SecretAccessKey" if "access_key_id" in config else "AccessKeyId"
        raise _unusable(url, side, ValueError(f"Missing {missing}"))
    if protocol == "s3":
        credentials = _amazon(parts.netloc, config)
    elif protocol == "abfs":
        credentials = _azure(parts.netloc, config)
    elif protocol != "gs":
        client["default_headers"] = web_headers(url, client.get("default_headers", {}))
    address = str(config.get("base_url" if protocol == "gs" else "endpoint", url)).lower()
    if address.startswith("http://"):
        client["allow_http"] = True
    elif "://" not in address:
        raise MarginCacheError(
            f"{url}: the address of the store must begin with https:// or http://. Check "
            f"endpoint_url in {side}_storage_options, in the environment and in the store's files."
        )

    def make(limits: Mapping[str, str]) -> Any:
        common: dict[str, Any] = {"client_options": {**limits, **client}, "retry_config": RETRIES}
        if protocol not in _BUCKETS:
            return HTTPStore(url.rstrip("/"), **common)
        bucket, prefix = parts.netloc.partition("@")[0], parts.path.strip("/") or None
        return _BUCKETS[protocol](bucket, prefix=prefix, config=config, **common, **credentials)

    try:
        store = ObstoreStore(url, side, make)
    except (exceptions.BaseError, TypeError, ValueError) as error:
        raise _unusable(url, side, error) from None
    store.server = _server_of(protocol, config)
    return store


def _server_of(protocol: str, config: Mapping[str, Any]) -> str:
    """Return the endpoint and the account that options name, in one form."""
    endpoint = str(config.get("base_url" if protocol == "gs" else "endpoint", ""))
    if protocol != "abfs":
        return endpoint.rstrip("/")
    account = config.get("account_name") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    return f"{account} {endpoint.rstrip('/') or f'https://{account}.blob.core.windows.net'}"


def _amazon(bucket: str, config: dict[str, Any]) -> dict[str, Any]:
    """Complete the options of S3: credentials from the usual files, and the bucket's region.

    Return the credentials of the options or the files, with which obstore uses no others.
    """
    extra: dict[str, Any] = {}
    profile = config.pop("profile", None)
    if "access_key_id" in config:
        given = {name: config.pop(name, None) for name in ("access_key_id", "secret_access_key")}
        given["token"] = config.pop("session_token", None)
        extra["credential_provider"] = lambda: {**given, "expires_at": None}
    has_key = bool(extra) or (profile is None and "AWS_ACCESS_KEY_ID" in os.environ)
    if not has_key and not config.get("skip_signature"):
        # Slow to import, and not needed for most catalogs.
        from botocore.session import Session

        session = Session(profile=profile)
        try:
            credentials, settings = session.get_credentials(), session.get_scoped_config()
            if credentials is not None:
                credentials.get_frozen_credentials()  # those of a file may have expired
        except Exception as error:  # of botocore, which can be any
            raise MarginCacheError(
                f"s3://{bucket}: no credentials ({without_user(str(error))})."
            ) from None
        for name, own in (("region", "region"), ("endpoint_url", "endpoint")):
            if name in settings:
                config.setdefault(own, settings[name])
        if credentials is not None:
            extra["credential_provider"] = lambda: {
                **dict(zip(_CREDENTIALS, credentials.get_frozen_credentials(), strict=False)),
                "expires_at": datetime.now(UTC) + timedelta(minutes=5),
            }
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        if os.environ.get(name):
            config.setdefault("endpoint", os.environ[name])
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


def _azure(place: str, config: dict[str, Any]) -> dict[str, Any]:
    """Complete the options of Azure by the account that a URL can have.

    Return the signature of the options: obstore would prefer a key of the environment.
    """
    if host := place.partition("@")[2]:
        config.setdefault("account_name", host.partition(".")[0])
    connection = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection and not {"account_name", "account_key", "sas_key"} & config.keys():
        config |= translate("abfs", {"connection_string": connection}, "input")
    if "account_key" not in config and (signature := config.pop("sas_key", None)):
        return {"credential_provider": lambda: {"sas_token": signature, "expires_at": None}}
    return {}


def web_headers(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers for a web server, with the password in ~/.netrc unless they have another."""
    user_headers = {"Accept-Encoding": "identity", **headers}
    if any(name.lower() == "authorization" for name in headers):
        return user_headers
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    with suppress(OSError, netrc.NetrcParseError):
        if found := netrc.netrc(str(path)).authenticators(urlsplit(url).hostname or ""):
            token = base64.b64encode(f"{found[0]}:{found[2]}".encode()).decode()
            user_headers["Authorization"] = f"Basic {token}"
    return user_headers
