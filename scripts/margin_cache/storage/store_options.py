"""fsspec's storage options, translated for obstore.

fsspec's drivers have a dictionary of options each, and so have the configuration keys. Options
inside options are named with a dot: `client_kwargs.region_name`. An option that is in no table is
refused, because without it another object might be read, or with other credentials.
"""

import base64
import json
import netrc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from margin_cache.errors import MarginCacheError

_NESTED = ("client_kwargs", "config_kwargs", "s3")
"""Options that have options themselves."""


@dataclass
class StoreOptions:
    """Options of obstore: those of a kind of store, and those of the HTTP client of all.

    ``profile`` is the one in the files of Amazon's tools, None for the default.
    """

    config: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    profile: str | None = None


_Setter = Callable[[StoreOptions, Any], None]


def _config(name: str) -> _Setter:
    return lambda options, value: options.config.update({name: value})


def _ignore(options: StoreOptions, value: Any) -> None:
    """Accept an option that says what is done anyway, or has no influence on objects."""


def _headers(options: StoreOptions, value: Any) -> None:
    own = options.client.setdefault("default_headers", {})
    own.update({str(name): str(text) for name, text in dict(value).items()})


def _verify(options: StoreOptions, value: Any) -> None:
    if isinstance(value, str):
        options.client["root_certificate"] = Path(value).read_bytes()
    else:
        options.client["allow_invalid_certificates"] = not value


def _addressing_style(options: StoreOptions, value: Any) -> None:
    if value not in ("path", "virtual", "auto"):
        raise ValueError(value)
    options.config["virtual_hosted_style_request"] = value == "virtual"


def _profile(options: StoreOptions, value: Any) -> None:
    options.profile = str(value)


def _google_token(options: StoreOptions, value: Any) -> None:
    if value == "anon":
        options.config["skip_signature"] = True
    elif isinstance(value, Mapping):
        options.config["service_account_key"] = json.dumps(dict(value))
    elif value not in (None, "google_default", "cloud", "cache"):
        if not Path(str(value)).expanduser().is_file():
            raise ValueError("no such file")
        options.config["application_credentials"] = str(Path(str(value)).expanduser())


def _requester_project(options: StoreOptions, value: Any) -> None:
    if isinstance(value, str):
        _headers(options, {"x-goog-user-project": value})


def _connection_string(options: StoreOptions, value: Any) -> None:
    parts = dict(part.split("=", 1) for part in str(value).split(";") if part)
    names = {
        "AccountName": "account_name",
        "AccountKey": "account_key",
        "SharedAccessSignature": "sas_key",
        "BlobEndpoint": "endpoint",
    }
    options.config.update({names[name]: parts[name] for name in names if name in parts})


def _account_host(options: StoreOptions, value: Any) -> None:
    options.config["endpoint"] = f"https://{value}"


_COMMON: dict[str, _Setter] = {"anon": _config("skip_signature"), "verify": _verify}

_OF_WEB: dict[str, _Setter] = {
    "verify": _verify,
    "headers": _headers,
    "trust_env": _ignore,  # proxies of the environment are always used
}

_TABLES: dict[str, dict[str, _Setter]] = {
    "s3": {
        **_COMMON,
        **dict.fromkeys(("key", "username", "aws_access_key_id"), _config("access_key_id")),
        **dict.fromkeys(
            ("secret", "password", "aws_secret_access_key"), _config("secret_access_key")
        ),
        **dict.fromkeys(("token", "aws_session_token"), _config("session_token")),
        "endpoint_url": _config("endpoint"),
        "region_name": _config("region"),
        "config_kwargs.s3.addressing_style": _addressing_style,
        "requester_pays": _config("request_payer"),
        "profile": _profile,
        "use_ssl": _ignore,  # the URL of the endpoint says so
    },
    "gs": {
        **_COMMON,
        "token": _google_token,
        "endpoint_url": _config("base_url"),
        "requester_pays": _requester_project,
        "project": _ignore,  # is needed for lists of buckets only
    },
    "abfs": {
        **_COMMON,
        "account_name": _config("account_name"),
        "account_key": _config("account_key"),
        "sas_token": _config("sas_key"),
        "connection_string": _connection_string,
        "account_host": _account_host,
        "endpoint_url": _config("endpoint"),
        "tenant_id": _config("tenant_id"),
        "client_id": _config("client_id"),
        "client_secret": _config("client_secret"),
    },
    "http": _OF_WEB,
    "https": _OF_WEB,
}


def translate(protocol: str, options: Mapping[str, Any], side: str) -> StoreOptions:
    """Translate fsspec's storage options for s3, gs, abfs, http or https; values are never shown.

    ``side`` is "input" or "output".
    """
    table, translated = _TABLES[protocol], StoreOptions()
    for name, value in flat_options(options):
        setter = table.get(name.removeprefix("client_kwargs."))
        if setter is None:
            raise MarginCacheError(
                f"{side}_storage_options: {name} is not an option for {protocol}://. "
                f"Known are {', '.join(sorted(table))}."
            )
        try:
            setter(translated, value)
        except (OSError, TypeError, ValueError):
            raise MarginCacheError(
                f"{side}_storage_options: the value of {name} is not valid (it is not shown, "
                "because it may be secret)."
            ) from None
    return translated


def flat_options(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values of options; one inside another has a name like `s3.region_name`."""
    for name, value in options.items():
        if name in _NESTED and isinstance(value, Mapping):
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def add_netrc(options: StoreOptions, url: str) -> None:
    """Add the user and password of a web server in ~/.netrc, unless a header has others."""
    headers = options.client.setdefault("default_headers", {})
    if any(name.lower() == "authorization" for name in headers):
        return
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    with suppress(OSError, netrc.NetrcParseError):
        if found := netrc.netrc(str(path)).authenticators(urlsplit(url).hostname or ""):
            user, _, password = found
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
