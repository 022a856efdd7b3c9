"""The configuration: checked against the schema, and turned into the settings of each margin."""

import difflib
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from margin_cache.config.model import MailSettings, MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import finest_margin_order

_DASK_KEYS = {
    "dask_tmp": "--default-resources tmpdir=DIRECTORY",
    "dask_n_workers": "--cores N on one machine, or --jobs N on a cluster",
    "dask_threads_per_worker": "--set-threads map_partitions=N, for N threads a job",
}

SMTP_USER = "MARGIN_CACHE_SMTP_USER"
SMTP_PASSWORD = "MARGIN_CACHE_SMTP_PASSWORD"  # the name of a variable, not a password

_SECRETS = {
    **dict.fromkeys(("user", "username", "login"), SMTP_USER),
    **dict.fromkeys(("password", "passwd", "pass"), SMTP_PASSWORD),
}

_PORTS = {"none": 25, "starttls": 587, "ssl": 465}

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{DOMAIN.pattern}")
_LONGEST_ADDRESS = 254

_OF_THE_RUN = ("completion_email_address", "smtp")


def settings_of_margins(config: Mapping[str, Any], schema_path: Path) -> list[MarginSettings]:
    """Check a configuration and return the settings of its margins.

    Args:
        config: the configuration as Snakemake holds it.
        schema_path: the JSON schema, a YAML file, which also has the defaults.

    Raises:
        MarginCacheError: a key is unknown, or its value is not allowed.
    """
    mail_settings(config, schema_path)
    schema = _read_schema(schema_path)
    known = schema["properties"]
    _check_keys(config, known, "")
    config = {key: _as_typed(value, known[key], schema) for key, value in config.items()}
    _check_values(config, {**schema, "properties": {**known, "margins": {"type": "array"}}}, "")
    defaults = {key: entry["default"] for key, entry in known.items()}
    common = {**defaults, **config}
    entries = common.pop("margins")
    if not entries:
        return [_settings(common, "")]
    part = known["margins"]["items"]
    all_settings = []
    for number, entry in enumerate(entries):
        where = f"margins[{number}]: "
        if not isinstance(entry, Mapping):
            raise MarginCacheError(
                f"{where}{_as_json(entry)} is not an object, a mapping of keys to values"
            )
        _check_keys(entry, part["properties"], where)
        entry = {
            key: _as_typed(value, part["properties"][key], schema) for key, value in entry.items()
        }
        _check_values(entry, {**part, "$defs": schema["$defs"]}, where)
        all_settings.append(_settings({**common, **entry}, where))
    return all_settings


def mail_settings(config: Mapping[str, Any], schema_path: Path) -> MailSettings | None:
    """Check the keys of a configuration that are about mail, and return what they say.

    Args:
        config: the configuration as Snakemake holds it.
        schema_path: the JSON schema, a YAML file, which also has the defaults.

    Returns:
        None if no mail is wanted.

    Raises:
        MarginCacheError: a value is not allowed.
    """
    schema = _read_schema(schema_path)
    rules = {key: schema["properties"][key] for key in _OF_THE_RUN}
    values = {
        key: _as_typed(config.get(key, rule["default"]), rule, schema)
        for key, rule in rules.items()
    }
    known = rules["smtp"]["properties"]
    smtp = values["smtp"]
    if isinstance(smtp, Mapping):
        for key in smtp:
            if str(key).lower() in _SECRETS:
                raise MarginCacheError(
                    f"smtp.{key}: is not read from the configuration; set it as "
                    f"{_SECRETS[str(key).lower()]} in the environment"
                )
        _check_keys(smtp, known, "smtp.")
        _check_values(smtp, rules["smtp"], "smtp.")
    _check_values(values, {"properties": rules}, "")
    smtp = {key: rule.get("default") for key, rule in known.items()} | smtp
    if smtp["sender"]:
        _check_address("smtp.sender", smtp["sender"])
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", smtp["host"]):
        raise MarginCacheError(f"smtp.host: {json.dumps(smtp['host'])} is not a name of a host")
    if not values["completion_email_address"].strip(" "):
        return None
    recipients = [part.strip(" ") for part in values["completion_email_address"].split(",")]
    for recipient in recipients:
        _check_address("completion_email_address", recipient)
    return MailSettings(
        recipients=tuple(dict.fromkeys(recipients)),
        host=smtp["host"],
        port=int(smtp["port"] or _PORTS[smtp["security"]]),
        security=smtp["security"],
        sender=smtp["sender"],
    )


@cache
def _read_schema(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _check_address(key: str, address: str) -> None:
    if not _ADDRESS.fullmatch(address) or len(address) > _LONGEST_ADDRESS:
        raise MarginCacheError(
            f"{key}: {json.dumps(address)} is not an address like name@example.org"
            + ("" if key.startswith("smtp") else " (several are separated by commas)")
        )


def _as_typed(value: Any, rule: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """Return a value as the type that the schema asks for, where it came as text or number.

    Snakemake reads what follows ``--config`` as a number, True, False or else as text, inside
    brackets as well.
    """
    if "$ref" in rule:
        rule = schema["$defs"][rule["$ref"].rpartition("/")[2]]
    if rule.get("type") == "string":
        return str(value) if type(value) in (int, float) else value
    if isinstance(value, str):
        with suppress(yaml.YAMLError):
            value = yaml.safe_load(value)
    if isinstance(value, list) and "prefixItems" in rule:
        places = rule["prefixItems"][: len(value)] + [{}] * (len(value) - len(rule["prefixItems"]))
        return [_as_typed(item, place, schema) for item, place in zip(value, places, strict=True)]
    if isinstance(value, list):
        return [_as_typed(item, rule.get("items", {}), schema) for item in value]
    if isinstance(value, Mapping) and "properties" in rule:
        rules = rule["properties"]
        return {key: _as_typed(item, rules.get(key, {}), schema) for key, item in value.items()}
    return value


def _settings(values: Mapping[str, Any], where: str) -> MarginSettings:
    values = {field.name: values[field.name] for field in fields(MarginSettings)}
    pixels = tuple((int(order), int(pixel)) for order, pixel in values["debug_filter_pixel_list"])
    for order, pixel in pixels:
        if pixel >= 12 * 4**order:
            raise MarginCacheError(
                f"{where}debug_filter_pixel_list: there is no pixel {pixel} at order {order}; "
                f"the last one is {12 * 4**order - 1}"
            )
    threshold = float(values["margin_threshold"])
    coarse = finest_margin_order(threshold)
    if values["margin_order"] > coarse:
        raise MarginCacheError(
            f"{where}margin_order: {values['margin_order']} is too fine for a margin_threshold of "
            f"{threshold:g} arcsec; use an order from 0 to {coarse}, or -1 to have it chosen"
        )
    if set("{}") & set(values["tmp_dir"]):
        raise MarginCacheError(
            f"{where}tmp_dir: {values['tmp_dir']} has braces, which Snakemake takes for wildcards; "
            "choose another directory"
        )
    per_job = values["partitions_per_job"]
    return MarginSettings(
        **{
            **values,
            "margin_order": int(values["margin_order"]),
            "partitions_per_job": per_job if per_job == "auto" else int(per_job),
            "debug_filter_pixel_list": tuple(sorted(set(pixels))),
            "margin_threshold": threshold,
        }
    )


def _check_keys(config: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for key in config:
        if key in _DASK_KEYS:
            raise MarginCacheError(
                f"{where}{key}: this workflow does not use dask; instead, give snakemake "
                f"{_DASK_KEYS[key]}"
            )
        if key not in known and key in _OF_THE_RUN:
            raise MarginCacheError(f"{where}{key}: is for the whole run; put it outside margins")
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise MarginCacheError(
                f"{where}{key}: there is no such key; the nearest is {near[0]} "
                f"(config/README.md lists all)"
            )


def _check_values(values: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    for key, value in values.items():
        if value is None:
            raise MarginCacheError(f"{where}{key}: has no value; give it one or leave the key out")
        if isinstance(value, str) and "\0" in value:
            raise MarginCacheError(f"{where}{key}: {_as_json(value)} has a NUL character")
    if error := jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(values)
    ):
        raise MarginCacheError(where + _one_line(error))
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise MarginCacheError(f"{where}{key}: {value} is not a finite number")


_WRONG = {
    "type": lambda rule: f"is not of type {rule}",
    "minimum": lambda rule: f"is less than the least value, {rule}",
    "maximum": lambda rule: f"is more than the greatest value, {rule}",
    "enum": lambda rule: f"is not one of {', '.join(rule)}",
    "pattern": lambda _: (
        'is not a name of letters, digits, ".", "_" and "-" that does not begin with "."'
    ),
    "minLength": lambda _: "is empty",
    "maxLength": lambda rule: f"is longer than {rule} characters",
}


def _one_line(error: jsonschema.ValidationError) -> str:
    """Say in one line which key has a wrong value, and what is wrong with it."""
    path = list(error.absolute_path)
    key = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path)
    value = _as_json(error.instance)
    if path[0] == "partitions_per_job":
        return f"{key}: {value} is neither auto nor a whole number of 1 or more"
    wrong = _WRONG.get(error.validator, lambda _: "is not right")(error.validator_value)
    if path[0] == "debug_filter_pixel_list":
        wrong += "; the key takes an array of [order, pixel] pairs of whole numbers"
    return f"{key}: {value} {wrong}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
