"""Checks a configuration. Each error is one line that begins with the key.

Types and limits are those of the pydantic model in ``model``; other rules are in this module.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from margin_cache.config.model import (
    PORTS,
    SMTP_PASSWORD,
    SMTP_USER,
    MailSettings,
    MarginSettings,
    RunSettings,
    SmtpSettings,
    annotations_of,
    choose_margin_order,
    key_of,
)
from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import check_url, is_url, protocol_of

_NO_DASK = "this workflow does not use dask. Use snakemake"
_NO_BAR = "bars are drawn on a terminal, unless progress_bar is false. Remove the key"
_NO_SKYMAP = "a margin has no sky map, in hats-import neither. Remove the key"
_OTHER_KEYS = "follows from {} and output_artifact_name. Use these keys"

_UNUSED_KEYS = {
    "dask_tmp": f"{_NO_DASK} --default-resources tmpdir=DIRECTORY",
    "dask_n_workers": f"{_NO_DASK} --cores N on one machine, or --jobs N on a cluster",
    "dask_threads_per_worker": f"{_NO_DASK} --set-threads map_partitions=N, for N threads a job",
    "simple_progress_bar": _NO_BAR,
    "tqdm_kwargs": _NO_BAR,
    "resume_tmp": "a run resumes from its intermediate files. Use tmp_dir",
    "delete_resume_log_files": "receipts and logs, which are small, are kept for a later run. To "
    "remove them, delete the margin's directory in tmp_dir",
    "row_group_kwargs": "has no effect on margins, in hats-import neither. Row groups have as many "
    "rows as those of the catalog. To change that, use write_table_kwargs: {row_group_size: N}",
    "should_write_skymap": _NO_SKYMAP,
    "skymap_alt_orders": _NO_SKYMAP,
    "create_skymap_png": _NO_SKYMAP,
    "catalog_path": _OTHER_KEYS.format("output_path"),
    "tmp_path": _OTHER_KEYS.format("tmp_dir"),
    "tmp_base_path": _OTHER_KEYS.format("tmp_dir"),
}
"""Arguments of hats-import and hipscat-import that are not keys here, and what to use instead."""

_PLAIN = (
    *("int_type", "greater_than_equal", "less_than_equal"),
    *("string_too_short", "string_too_long"),
)
"""Errors whose text by pydantic is better than the general description of a key."""

_SECRETS = {
    **dict.fromkeys(("user", "username", "login"), SMTP_USER),
    **dict.fromkeys(("password", "passwd", "pass"), SMTP_PASSWORD),
}

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_MAX_ADDRESS = 254

_SIMILAR = 0.8
"""How similar a misspelt key is to the right one; others are found by the words that they share."""

_GENERAL_WORDS = {"dir", "path", "name", "size", "options", "create"}

_PATHS = ("input_catalog_path", "output_path", "tmp_dir", "audit_catalog_path")

_NEEDS_DISK = (
    "create_thumbnail",
    "create_per_partition_stats",
    "create_partition_info_png",
    "create_summary_html",
    "create_summary_md",
)
"""Keys of files that hats makes of a margin on disk."""


def settings_of_margins(config: Mapping[str, Any]) -> list[MarginSettings]:
    """Check a whole configuration, as Snakemake holds it; return the settings of its margins."""
    mail_settings(config)
    wants_progress_bar(config)
    margin_keys = annotations_of(MarginSettings)
    check_keys(config, [*margin_keys, *annotations_of(RunSettings)], "")
    common = check_values(_part(config, margin_keys), MarginSettings, "")
    margins = check_values(_part(config, ["margins"]), RunSettings, "").get("margins", ())
    if not margins:
        return [_margin_settings(common, "")]
    all_settings = []
    for number, margin in enumerate(margins):
        where = f"margins[{number}]: "
        values = {**common, **check_values(margin, MarginSettings, where)}
        all_settings.append(_margin_settings(values, where))
    return all_settings


def wants_progress_bar(config: Mapping[str, Any]) -> bool:
    """Check and return ``progress_bar``."""
    values = check_values(_part(config, ["progress_bar"]), RunSettings, "")
    return bool(RunSettings(**values).progress_bar)


def mail_settings(config: Mapping[str, Any]) -> MailSettings | None:
    """Check the keys about the mail; return None if no mail is wanted."""
    values = check_values(_part(config, ["completion_email_address", "smtp"]), RunSettings, "")
    server = values.get("smtp", {})
    for key in server:
        if variable := _SECRETS.get(str(key).lower()):
            raise MarginCacheError(
                f"smtp.{key}: is not read from the configuration. Set {variable} in the "
                "environment."
            )
    smtp = SmtpSettings(**check_values(server, SmtpSettings, "smtp."))
    if smtp.sender:
        _check_address("smtp.sender", smtp.sender)
    addresses = values.get("completion_email_address", "")
    text = addresses if isinstance(addresses, str) else ",".join(addresses)
    if not text.strip(" "):
        return None
    recipients = [address.strip(" ") for address in text.split(",")]
    for recipient in recipients:
        _check_address("completion_email_address", recipient)
    return MailSettings(
        recipients=tuple(dict.fromkeys(recipients)),
        host=smtp.host,
        port=smtp.port or PORTS[smtp.security],
        security=smtp.security,
        sender=smtp.sender,
    )


def check_keys(config: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Check that all keys are known; the error names the nearest known key."""
    known = list(known)
    for key in config:
        if key in known:
            continue
        if key in _UNUSED_KEYS:
            raise MarginCacheError(f"{where}{key}: {_UNUSED_KEYS[key]}.")
        if key in annotations_of(RunSettings):
            raise MarginCacheError(f"{where}{key}: is for the whole run. Move it out of margins.")
        nearest = _nearest(str(key).lower(), known)
        raise MarginCacheError(
            f"{where}{key}: unknown key. {f'Did you mean {nearest}? ' if nearest else ''}"
            "config/README.md lists all keys."
        )


def _nearest(key: str, known: Iterable[str]) -> str:
    """Return the known key that is very similar, or shares most words; "" if none does."""

    def likeness(name: str) -> tuple[bool, int, bool, float]:
        similarity = difflib.SequenceMatcher(None, key, name).ratio()
        words = set(name.split("_")) & set(key.split("_")) - _GENERAL_WORDS
        return similarity >= _SIMILAR, len(words), not name.startswith("audit_"), similarity

    nearest = max(known, key=likeness)
    return nearest if any(likeness(nearest)[:2]) else ""


def check_values(values: Mapping[str, Any], model: type, where: str) -> dict[str, Any]:
    """Check the values of some keys of a model; return each as its type.

    Args:
        values: the keys with their values. Of ``smtp`` and ``margins``, which have keys of their
            own, only the type is checked.
        model: the model.
        where: beginning of an error message.
    """
    annotations = annotations_of(model)
    check_keys(values, annotations, where)
    checked = {}
    for key, value in values.items():
        value = _converted(value, annotations[key])
        if value is None:
            raise MarginCacheError(f"{where}{key}: has no value. Give one or remove the key.")
        if isinstance(value, str) and "\0" in value:
            raise MarginCacheError(f"{where}{key}: {_as_json(value)} contains a NUL character")
        try:
            checked[key] = _adapter(model, key).validate_python(value, strict=True)
        except ValidationError as error:
            raise MarginCacheError(f"{where}{key}{_fault(annotations[key], error)}") from None
    return checked


@cache
def _adapter(model: type, key: str) -> TypeAdapter[Any]:
    with_own_keys = {"smtp": dict[Any, Any], "margins": tuple[dict[Any, Any], ...]}
    type_ = with_own_keys.get(key, annotations_of(model)[key])
    return TypeAdapter(type_, config={"allow_inf_nan": False})


def _converted(value: Any, annotation: Any) -> Any:
    """Return a value as the type of its key, if Snakemake read it as text or number.

    Snakemake reads a value after ``--config`` as a number, True, False or text, also inside
    brackets. A value that cannot be converted is returned as it is.
    """
    types = _types_of(annotation)
    arrays = [type_ for type_ in types if get_origin(type_) is tuple]
    if str in types and not (arrays and isinstance(value, list)):
        return str(value) if type(value) in (int, float) else value
    if isinstance(value, str):
        with suppress(yaml.YAMLError, ValueError):
            value = yaml.safe_load(value)
    if int in types and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list) and arrays:
        first, *others = get_args(arrays[0])
        items = repeat(first) if others == [...] else chain([first, *others], repeat(Any))
        return tuple(map(_converted, value, items))
    return value


def _types_of(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without their limits."""
    if get_origin(annotation) is Annotated:
        return _types_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [type_ for part in get_args(annotation) for type_ in _types_of(part)]
    return [annotation]


def _fault(annotation: Any, error: ValidationError) -> str:
    """Return the rest of an error line after the key: index, value and the rule it breaks."""
    first = error.errors(include_url=False)[0]
    # The value of a missing item is the array that is too short.
    path = first["loc"][:-1] if first["type"] == "missing" else first["loc"]
    index = "".join(f"[{part}]" for part in path if isinstance(part, int))
    takes = key_of(annotation).takes
    is_one_of_several_types = any(isinstance(part, str) for part in path)
    if takes and (is_one_of_several_types or first["type"] not in _PLAIN):
        rule = f"be {takes}"
    else:
        rule = first["msg"].partition(" should ")[2]
    return f"{index}: {_as_json(first['input'])} should {rule}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _part(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: config[key] for key in keys if key in config}


def _margin_settings(values: Mapping[str, Any], where: str) -> MarginSettings:
    """Return the settings of a margin, whose values have their types, after further checks."""
    try:
        settings = _with_homes(MarginSettings(**values))
        _check_urls(settings)
        for order, pixel in settings.debug_filter_pixel_list:
            if pixel >= 12 * 4**order:
                raise MarginCacheError(
                    f"debug_filter_pixel_list: there is no pixel {pixel} at order {order}. The "
                    f"last one is {12 * 4**order - 1}."
                )
        choose_margin_order(settings.margin_order, settings.margin_threshold)
        if not settings.tmp_dir.isprintable():
            raise MarginCacheError(
                f"tmp_dir: {settings.tmp_dir!r} has characters that cannot be printed or are not "
                "UTF-8. Use another directory."
            )
        if set("{}") & set(settings.tmp_dir):
            raise MarginCacheError(
                f"tmp_dir: {settings.tmp_dir} has braces, which mark wildcards of Snakemake. Use "
                "another directory."
            )
    except MarginCacheError as error:
        raise MarginCacheError(f"{where}{error}") from None
    pixels = tuple(sorted(set(settings.debug_filter_pixel_list)))
    return replace(settings, debug_filter_pixel_list=pixels)


def _check_urls(settings: MarginSettings) -> None:
    """Check that URLs are given only where they are allowed, without secrets."""
    if is_url(settings.input_catalog_path):
        check_url("input_catalog_path", settings.input_catalog_path)
    if is_url(settings.tmp_dir):
        raise MarginCacheError("tmp_dir: is a URL. Intermediate files need a directory.")
    if not is_url(settings.output_path):
        return
    check_url("output_path", settings.output_path)
    if protocol_of(settings.output_path) not in ("s3", "s3a"):
        raise MarginCacheError(
            f"output_path: {settings.output_path} is not a URL of S3. Use a directory, or a URL "
            "that begins with s3://."
        )
    for key in _NEEDS_DISK:
        if getattr(settings, key):
            raise MarginCacheError(
                f"{key}: is available for margins on disk only, and output_path is a URL. Remove "
                "the key."
            )


def _with_homes(settings: MarginSettings) -> MarginSettings:
    """Return settings with ``~`` expanded in paths, as Snakemake does in the paths of rules."""
    paths: dict[str, Any] = {}
    for key in _PATHS:
        path = getattr(settings, key)
        if path.startswith("~"):
            try:
                paths[key] = str(Path(path).expanduser())
            except RuntimeError:
                raise MarginCacheError(
                    f"{key}: {path} is in the home directory of an unknown user. Give the full "
                    "path."
                ) from None
    return replace(settings, **paths)


def _check_address(key: str, address: str) -> None:
    if not _ADDRESS.fullmatch(address) or len(address) > _MAX_ADDRESS:
        several = "" if key.startswith("smtp") else ". Separate several addresses by commas."
        raise MarginCacheError(
            f"{key}: {json.dumps(address)} is not an address like name@example.org{several}"
        )
