"""Checks of a configuration against the model, and what is said of a faulty one."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from margin_cache.config.key_values import annotations_of, check_keys, check_values
from margin_cache.config.model import (
    PORTS,
    SMTP_PASSWORD,
    SMTP_USER,
    MailSettings,
    MarginSettings,
    RunSettings,
    SmtpSettings,
    choose_margin_order,
)
from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import check_url, is_url, protocol_of

_SECRETS = {
    **dict.fromkeys(("user", "username", "login"), SMTP_USER),
    **dict.fromkeys(("password", "passwd", "pass"), SMTP_PASSWORD),
}

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{DOMAIN.pattern}")
_LONGEST_ADDRESS = 254

_OF_FILES_ON_DISK = (
    "create_thumbnail",
    "create_per_partition_stats",
    "create_partition_info_png",
    "create_summary_html",
    "create_summary_md",
)
"""Keys of what hats makes of the files of a margin."""


def settings_of_margins(config: Mapping[str, Any]) -> list[MarginSettings]:
    """Check a configuration and return the settings of its margins.

    Args:
        config: the configuration as Snakemake holds it.

    Raises:
        MarginCacheError: a key is unknown, or its value is not allowed.
    """
    mail_settings(config)
    wants_progress_bar(config)
    keys_of_margin = annotations_of(MarginSettings)
    check_keys(config, [*keys_of_margin, *annotations_of(RunSettings)], "")
    common = check_values(_part(config, keys_of_margin), MarginSettings, "")
    margins = check_values(_part(config, ["margins"]), RunSettings, "").get("margins", ())
    if not margins:
        return [_margin_settings(common, "")]
    all_settings = []
    for number, entry in enumerate(margins):
        where = f"margins[{number}]: "
        values = {**common, **check_values(entry, MarginSettings, where)}
        all_settings.append(_margin_settings(values, where))
    return all_settings


def wants_progress_bar(config: Mapping[str, Any]) -> bool:
    """Check and return whether a run shows how far it is.

    Args:
        config: the configuration as Snakemake holds it.

    Raises:
        MarginCacheError: the value is not allowed.
    """
    values = check_values(_part(config, ["progress_bar"]), RunSettings, "")
    return bool(RunSettings(**values).progress_bar)


def mail_settings(config: Mapping[str, Any]) -> MailSettings | None:
    """Check the keys of a configuration that are about mail, and return what they say.

    Args:
        config: the configuration as Snakemake holds it.

    Returns:
        None if no mail is wanted.

    Raises:
        MarginCacheError: a value is not allowed.
    """
    values = check_values(_part(config, ["completion_email_address", "smtp"]), RunSettings, "")
    keys = values.get("smtp", {})
    for key in keys:
        if variable := _SECRETS.get(str(key).lower()):
            raise MarginCacheError(
                f"smtp.{key}: is not read from the configuration; set it as {variable} in the "
                "environment"
            )
    smtp = SmtpSettings(**check_values(keys, SmtpSettings, "smtp."))
    if smtp.sender:
        _check_address("smtp.sender", smtp.sender)
    given = values.get("completion_email_address", "")
    addresses = ",".join([given] if isinstance(given, str) else given)
    if not addresses.strip(" "):
        return None
    recipients = [part.strip(" ") for part in addresses.split(",")]
    for recipient in recipients:
        _check_address("completion_email_address", recipient)
    return MailSettings(
        recipients=tuple(dict.fromkeys(recipients)),
        host=smtp.host,
        port=smtp.port or PORTS[smtp.security],
        security=smtp.security,
        sender=smtp.sender,
    )


def check_config_file(path: Path) -> None:
    """Check that Snakemake can read a file of configuration, if it is there.

    Of one that is no YAML, Snakemake itself says so.

    Raises:
        MarginCacheError: it has a number of thousands of digits, or a value that holds itself.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError):
        return
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(";")[0]
        raise MarginCacheError(f"{path}: has a value that cannot be read ({reason})") from None
    if _holds_itself(values, ()):
        raise MarginCacheError(
            f"{path}: has a value that holds itself, by an anchor and an alias; write it without"
        )


def _holds_itself(value: Any, around: tuple[int, ...]) -> bool:
    """Tell whether a value is in itself, or in one of those around it."""
    if not isinstance(value, dict | list):
        return False
    if id(value) in around:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_holds_itself(part, (*around, id(value))) for part in inner)


def _part(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: config[key] for key in keys if key in config}


def _margin_settings(values: Mapping[str, Any], where: str) -> MarginSettings:
    """Return the settings of a margin whose keys were checked one by one."""
    settings = _with_homes(MarginSettings(**values), where)
    _check_urls(settings, where)
    pixels = sorted(set(settings.debug_filter_pixel_list))
    for order, pixel in pixels:
        if pixel >= 12 * 4**order:
            raise MarginCacheError(
                f"{where}debug_filter_pixel_list: there is no pixel {pixel} at order {order}; "
                f"the last one is {12 * 4**order - 1}"
            )
    try:
        choose_margin_order(settings.margin_order, settings.margin_threshold)
    except MarginCacheError as error:
        raise MarginCacheError(f"{where}{error}") from None
    if not settings.tmp_dir.isprintable():
        raise MarginCacheError(
            f"{where}tmp_dir: {settings.tmp_dir!r} has signs that cannot be printed, or is not "
            "UTF-8; choose another directory"
        )
    if set("{}") & set(settings.tmp_dir):
        raise MarginCacheError(
            f"{where}tmp_dir: {settings.tmp_dir} has braces, which Snakemake takes for wildcards; "
            "choose another directory"
        )
    return replace(settings, debug_filter_pixel_list=tuple(pixels))


def _check_urls(settings: MarginSettings, where: str) -> None:
    """Check that a URL is given only where one may be, and that it holds no secret."""
    if is_url(settings.input_catalog_path):
        check_url(f"{where}input_catalog_path", settings.input_catalog_path)
    if is_url(settings.tmp_dir):
        raise MarginCacheError(
            f"{where}tmp_dir: is a URL, and intermediate files are on disk; give a directory"
        )
    if not is_url(settings.output_path):
        return
    check_url(f"{where}output_path", settings.output_path)
    if protocol_of(settings.output_path) not in ("s3", "s3a"):
        raise MarginCacheError(
            f"{where}output_path: {settings.output_path} is no URL of S3 (s3://), and margins are "
            "written to nothing else but disks"
        )
    for key in _OF_FILES_ON_DISK:
        if getattr(settings, key):
            raise MarginCacheError(
                f"{where}{key}: is of margins on disk, and output_path is a URL; leave it out"
            )


def _with_homes(settings: MarginSettings, where: str) -> MarginSettings:
    """Return settings whose paths begin with a home directory where they were given with `~`.

    Snakemake would put it there, and nothing else would.
    """
    paths: dict[str, Any] = {}
    for key in ("input_catalog_path", "output_path", "tmp_dir", "audit_catalog_path"):
        path = getattr(settings, key)
        if not path.startswith("~"):
            continue
        try:
            paths[key] = str(Path(path).expanduser())
        except RuntimeError:
            raise MarginCacheError(
                f"{where}{key}: {path} begins with the home directory of a user whom this machine "
                "does not know; write it in full"
            ) from None
    return replace(settings, **paths)


def _check_address(key: str, address: str) -> None:
    if not _ADDRESS.fullmatch(address) or len(address) > _LONGEST_ADDRESS:
        raise MarginCacheError(
            f"{key}: {json.dumps(address)} is not an address like name@example.org"
            + ("" if key.startswith("smtp") else " (several are separated by commas)")
        )
