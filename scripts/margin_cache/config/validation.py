"""Checks a configuration and a command. Each error is one line that begins with key or option.

Types and limits are those of the pydantic models in ``model``; other rules are in this module.
"""

import difflib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from margin_cache.config.model import (
    ADDRESS,
    PORTS,
    SMTP_PASSWORD,
    SMTP_USER,
    MailSettings,
    MarginSettings,
    RunSettings,
    SmtpSettings,
    Table,
    annotations_of,
    choose_margin_order,
    given_keys,
    key_of,
)
from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import canonical_url, check_url, is_url

_WRITABLE = ("s3://", "gs://", "abfs://")
"""Beginnings of the URLs of stores to which margins are written; see `canonical_url`."""

_NO_DASK = "this workflow does not use dask. Use snakemake"
_NO_BAR = "bars are drawn on a terminal, unless progress_bar is false. Remove the key"
_NO_SKYMAP = "a margin has no sky map, in hats-import neither. Remove the key"

_UNUSED_KEYS = {
    "dask_tmp": f"{_NO_DASK} --default-resources tmpdir=DIRECTORY",
    "dask_n_workers": f"{_NO_DASK} --cores N on one machine, or --jobs N on a cluster",
    "dask_threads_per_worker": f"{_NO_DASK} --cores N: a job uses one thread",
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
}
"""Arguments of hats-import and hipscat-import that are not keys here, and what to use instead."""

_PLAIN = (
    *("int_type", "int_parsing", "int_from_float", "greater_than_equal", "less_than_equal"),
    *("string_too_short", "string_too_long"),
)
"""Errors whose text by pydantic is better than the general description of a key."""

_SECRETS = {"user": SMTP_USER, "password": SMTP_PASSWORD}
_PATHS = ("input_catalog_path", "output_path", "tmp_dir", "audit_catalog_path")

Model = TypeVar("Model")
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def settings_of_margins(config: Mapping[str, Any]) -> list[MarginSettings]:
    """Check a whole configuration, as Snakemake holds it; return the settings of its margins."""
    mail_settings(config)
    margin_keys = annotations_of(MarginSettings)
    check_keys(config, [*margin_keys, *annotations_of(RunSettings)], "")
    common = {key: config[key] for key in config if key in margin_keys}
    read(common, MarginSettings)
    margins = run_settings(config).margins
    if not margins:
        return [_margin_settings(common, "")]
    return [
        _margin_settings({**common, **margin}, f"margins[{number}]: ")
        for number, margin in enumerate(margins)
    ]


def run_settings(config: Mapping[str, Any]) -> RunSettings:
    keys = annotations_of(RunSettings)
    return read({key: config[key] for key in config if key in keys}, RunSettings)


def mail_settings(config: Mapping[str, Any]) -> MailSettings | None:
    """Check the keys about the mail; return None if no mail is wanted."""
    run = run_settings(config)
    for key in run.smtp:
        if variable := _SECRETS.get(str(key)):
            raise MarginCacheError(
                f"smtp.{key}: is not read from the configuration. Set {variable} in the "
                "environment."
            )
    smtp = read(run.smtp, SmtpSettings, "smtp.")
    addresses = run.completion_email_address
    text = addresses if isinstance(addresses, str) else ",".join(addresses)
    if not text.strip(" "):
        return None
    recipients = [address.strip(" ") for address in text.split(",")]
    for recipient in recipients:
        if not re.fullmatch(ADDRESS, recipient):
            raise MarginCacheError(
                f"completion_email_address: {json.dumps(recipient)} is not an address like "
                "name@example.org. Separate several addresses by commas."
            )
    server = replace(smtp, port=smtp.port or PORTS[smtp.security])
    return MailSettings(tuple(dict.fromkeys(recipients)), server)


def check_keys(config: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Check that all keys are known; the error names similar keys."""
    known = list(known)
    for key in config:
        if key in known:
            continue
        if key in _UNUSED_KEYS:
            raise MarginCacheError(f"{where}{key}: {_UNUSED_KEYS[key]}.")
        if key in annotations_of(RunSettings):
            raise MarginCacheError(
                f"{where}{key}: applies to the whole run. Put it beside margins, not into it."
            )
        similar = " or ".join(difflib.get_close_matches(str(key).lower(), known, n=2))
        raise MarginCacheError(
            f"{where}{key}: unknown key. {f'Did you mean {similar}? ' if similar else ''}"
            "config/README.md lists all keys."
        )


def read(values: Mapping[str, Any], model: type[Model], where: str = "") -> Model:
    """Return a model with the values of some keys; ``where`` begins the message of an error."""
    annotations = annotations_of(model)
    check_keys(values, annotations, where)
    for key, value in values.items():
        if value is None:
            raise MarginCacheError(f"{where}{key}: has no value. Give one or remove the key.")
    if model not in _ADAPTERS:
        _ADAPTERS[model] = TypeAdapter(model)  # which takes longer than all of the checks
    try:
        return _ADAPTERS[model].validate_python(values)
    except ValidationError as error:
        raise MarginCacheError(f"{where}{_fault(annotations, error)}") from None


def _fault(annotations: Mapping[str, Any], error: ValidationError) -> str:
    """Return the first error: key, index, value and the rule that the value breaks."""
    first = error.errors(include_url=False)[0]
    key, *path = first["loc"]
    if first["type"] == "missing":  # the value is the array that is too short
        path.pop()
    index = "".join(f"[{part}]" for part in path if isinstance(part, int))
    takes = key_of(annotations[str(key)]).takes
    is_one_of_several_types = any(isinstance(part, str) for part in path)
    if takes and (is_one_of_several_types or first["type"] not in _PLAIN):
        rule = f"be {takes}"
    else:
        rule = first["msg"].partition(" should ")[2]
    value = json.dumps(first["input"], ensure_ascii=False, default=str)
    # Mappings are options of stores and of mail servers.
    may_be_secret = key == "smtp" or "storage_options" in str(key) or "{" in value
    return f"{key}{index}: {'the value' if may_be_secret else value} should {rule}"


def _margin_settings(values: Mapping[str, Any], where: str) -> MarginSettings:
    """Return the settings of a margin after checks of several keys together."""
    settings = read(values, MarginSettings, where)
    # As Snakemake does in the paths of rules. Unlike Path.expanduser, this leaves an unknown user's
    # home as it is, which is not found then.
    homes = {key: os.path.expanduser(getattr(settings, key)) for key in _PATHS}  # noqa: PTH111
    pixels = tuple(sorted(set(settings.debug_filter_pixel_list)))
    settings = replace(settings, debug_filter_pixel_list=pixels, **homes)
    try:
        _check_urls(settings)
        for order, pixel in pixels:
            if pixel >= 12 * 4**order:
                raise MarginCacheError(
                    f"debug_filter_pixel_list: there is no pixel {pixel} at order {order}. The "
                    f"last one is {12 * 4**order - 1}."
                )
        choose_margin_order(settings.margin_order, settings.margin_threshold)
        if not settings.tmp_dir.isprintable() or set("{}") & set(settings.tmp_dir):
            raise MarginCacheError(
                f"tmp_dir: {settings.tmp_dir!r} has braces, which mark wildcards of Snakemake, or "
                "characters that cannot be printed. Use another directory."
            )
    except MarginCacheError as error:
        raise MarginCacheError(f"{where}{error}") from None
    return settings


def _check_urls(settings: MarginSettings) -> None:
    """Check that URLs are given only where they are allowed, without secrets."""
    if is_url(settings.input_catalog_path):
        check_url("input_catalog_path", settings.input_catalog_path)
    if is_url(settings.tmp_dir):
        raise MarginCacheError("tmp_dir: is a URL. Intermediate files need a directory.")
    if not is_url(settings.output_path):
        return
    check_url("output_path", settings.output_path)
    if not canonical_url(settings.output_path).startswith(_WRITABLE):
        raise MarginCacheError(
            f"output_path: {settings.output_path} is not a URL to which margins are written. Use a "
            "directory, or a URL that begins with s3://, gs:// or az://."
        )
    for key in given_keys(settings, Table.HATS):
        if key.startswith("create_"):  # hats makes these files of a margin on disk
            raise MarginCacheError(
                f"{key}: is available for margins on disk only, and output_path is a URL. Remove "
                "the key."
            )


def check_catalog_given(config: Mapping[str, Any], directory: Path, workflow_dir: Path) -> None:
    """Check that a catalog is configured: users seldom want the default, the demo sky."""
    margins = run_settings(config).margins or ({},)
    if not all("input_catalog_path" in {*config, *margin} for margin in margins):
        raise MarginCacheError(
            "input_catalog_path: is missing after --config, in --configfile and in "
            f"{directory / 'config/config.yaml'}. Give the directory of a catalog, or of the demo "
            f"sky: {workflow_dir / 'demo/hipparcos'}."
        )


# --- the command ---------------------------------------------------------------------------------

_ONLY_ONCE = ("--config", "--configfile", "--default-resources", "--set-resources", "--set-threads")
"""Options that Snakemake reads from their last occurrence only."""

_OTHER_NAMES = {
    "-C": "--config",
    "--configfiles": "--configfile",
    "--default-res": "--default-resources",
}
_PROFILE = "--workflow-profile"
_READ_ONLY = (
    *("--lint", "--list", "-l", "--lt", "--lr", "--lc", "--lp", "--summary", "-S", "-D"),
    *("--detailed-summary", "--dag", "--rulegraph", "--filegraph", "--d3dag", "--report"),
)
"""Beginnings of options that only print; they work in directories without write permission."""


def check_command(words: Sequence[str], start: Path, workflow_dir: Path) -> None:
    """Check for repeated options and for missing workflow profiles."""
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    names = [_OTHER_NAMES.get(option, option) for option in options]
    for name in _ONLY_ONCE:
        if names.count(name) > 1:
            raise MarginCacheError(
                f"{name}: is given {names.count(name)} times, but Snakemake reads the last one "
                "only. Give it once, followed by all its values."
            )
    parents = (start, start / "profiles", workflow_dir / "profiles")
    for word, following in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        profile = value if equals else following
        if option != _PROFILE or profile == "none":
            continue
        if not any((parent / profile).exists() for parent in parents):
            profiles = sorted(path.name for path in workflow_dir.glob("profiles/*/"))
            raise MarginCacheError(
                f"{_PROFILE}: there is no profile {profile}, and Snakemake would run without one. "
                f"Profiles of the workflow: {', '.join(profiles)}."
            )


def check_working_directory(words: Sequence[str], directory: Path) -> None:
    """Check that Snakemake can write its own files, unless the command only prints."""
    if any(word.startswith(_READ_ONLY) for word in words):
        return
    own = directory / ".snakemake"
    try:
        own.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=own) as file:
            file.write(bytes(1 << 16))  # as much as its log and records
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MarginCacheError(
            f"{own}: Snakemake cannot write its files ({error.strerror or error}). Free disk "
            "space, or use another working directory with --directory."
        ) from None
