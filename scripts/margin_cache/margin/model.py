"""A margin with its name, settings and plan, and how jobs load it from files."""

import json
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.hats import primary_of
from margin_cache.catalog.model import CatalogInfo
from margin_cache.catalog.spec import COLLECTION_PROPERTIES
from margin_cache.config.model import MarginSettings, Table, guaranteed_threshold, key_of
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.margin.output import Output, open_output
from margin_cache.margin.paths import (
    TMP_DIR,
    MarginFiles,
    PlanFiles,
    intermediate_dir,
    margin_files,
    plan_dirs,
)
from margin_cache.margin.storage_options import OptionsSource, load_options, save_source
from margin_cache.planning.model import Plan, load_plan, save_plan
from margin_cache.storage.files import read_json, write_json
from margin_cache.storage.urls import check_url, is_url

PATIENCE = 10.0
"""Time in which a file server shows what another machine has written (seconds)."""

_SETTINGS_OF_AUDITS = frozenset(
    key.name for key in fields(MarginSettings) if key_of(key.type).table == Table.AUDIT
)


class NamedMargin(NamedTuple):
    """A margin before planning."""

    info: CatalogInfo
    settings: MarginSettings
    name: str
    intermediate_dir: Path


@dataclass(frozen=True)
class Margin:
    """A margin with its plan.

    Attributes:
        is_plan_new: whether the plan differs from the plan on disk.
        options_source: where jobs find the storage options of a remote catalog.
        output_source: where jobs find the storage options of an output bucket.
        may_be_default: whether it becomes the default margin of its collection if there is none.
    """

    settings: MarginSettings
    name: str
    intermediate_dir: Path
    plan: Plan
    is_plan_new: bool = False
    options_source: OptionsSource | None = None
    output_source: OptionsSource | None = None
    may_be_default: bool = True

    @cached_property
    def files(self) -> MarginFiles:
        plan_dir = self.intermediate_dir / self.plan.plan_id
        return margin_files(plan_dir, self.settings.output_path, self.name)

    @cached_property
    def output(self) -> Output:
        """Where the margin is put, with what is there now."""
        return open_output(self.files, self.output_options)

    def output_options(self) -> Mapping[str, Any]:
        """Return the storage options of the margin's URL."""
        if self.output_source is not None:
            return self.settings.output_storage_options
        return load_options(self.files.output_storage_file)

    @property
    def done_file(self) -> Path:
        """The file that the finishing job writes last, for the present state of the catalog."""
        return self.files.done(self.plan.input_fingerprint)


def save_margin(margin: Margin) -> None:
    """Write what jobs need to load a margin, unless it is on disk already."""
    if margin.is_plan_new:
        info = margin.plan.parameters.catalog
        if info.url:
            from margin_cache.storage.remote_files import connected, save_listing

            save_listing(connected(info.url), margin.files.listing)
        save_plan(margin.plan, margin.files.plan)
    if margin.options_source is not None:
        save_source(margin.options_source, margin.files.storage_file)
    if margin.output_source is not None:
        save_source(margin.output_source, margin.files.output_storage_file)
    else:
        margin.files.output_storage_file.unlink(missing_ok=True)
    record = {
        "name": margin.name,
        "settings": settings_as_json(margin.settings),
        "may_be_default": margin.may_be_default,
    }
    if read_json(margin.files.margin_file) != record:
        write_json(margin.files.margin_file, record)


def load_margin(path: Path) -> Margin:
    """Load a margin from its ``margin.json``."""
    record = read_json(path)
    try:
        values = record["settings"]
        pixels = tuple(tuple(pixel) for pixel in values["debug_filter_pixel_list"])
        settings = MarginSettings(**{**values, "debug_filter_pixel_list": pixels})
        saved = {name: record[name] for name in ("name", "may_be_default")}
    except (TypeError, KeyError):
        raise MarginCacheError(
            f"{path}: is missing or damaged. Start the run again; it replaces the file."
        ) from None
    plan = load_plan(PlanFiles(path.parent).plan)
    return Margin(settings, intermediate_dir=path.parent.parent, plan=plan, **saved)


def load_margins(all_settings: Iterable[MarginSettings]) -> list[Margin]:
    """Load the margins that the main process has prepared, without listing the catalogs.

    Older plans may have the same settings as the current one; all are returned.
    """
    return [margin for settings in with_primary_tables(all_settings) for margin in _load(settings)]


def _load(settings: MarginSettings) -> list[Margin]:
    directory = Path(settings.tmp_dir or TMP_DIR)
    end = time.monotonic() + PATIENCE
    while not (found := _margin_files_of(settings, directory)):
        if time.monotonic() < end:
            time.sleep(min(1.0, PATIENCE / 5))
            with suppress(OSError):  # makes a network file system ask its server
                next(directory.parent.iterdir(), None)
        elif directory.exists():
            raise MarginCacheError(
                f"{directory}: has no plan of this configuration. Do not change the configuration "
                "during a run, and use a tmp_dir on a file system that all nodes see."
            )
        else:
            node = os.environ.get("SLURMD_NODENAME", platform.node())
            raise RetryableError(
                f"tmp_dir: {directory.absolute()} is not visible on {node}, which runs a job. Use "
                "a file system that all nodes see."
            )
    return list(map(load_margin, found))


def _margin_files_of(settings: MarginSettings, tmp_dir: Path) -> list[Path]:
    """Return the ``margin.json`` of all plans with some settings."""
    directories = sorted(tmp_dir.iterdir()) if tmp_dir.is_dir() else []
    return [
        path
        for directory in directories
        for plan_dir in plan_dirs(directory)
        for path in [PlanFiles(plan_dir).margin_file]
        if isinstance(record := read_json(path), dict)
        and record.get("settings") == settings_as_json(settings)
    ]


def settings_as_json(settings: MarginSettings) -> dict[str, Any]:
    """Return settings in the types of JSON, without secrets and those of audits."""
    left_out = {"input_storage_options", "output_storage_options", *_SETTINGS_OF_AUDITS}
    values = {key: value for key, value in asdict(settings).items() if key not in left_out}
    return json.loads(json.dumps(values))


def with_primary_tables(all_settings: Iterable[MarginSettings]) -> list[MarginSettings]:
    """Replace local collections whose primary tables are remote by the URLs of these."""
    replaced = []
    for settings in all_settings:
        path = settings.input_catalog_path
        # Other errors are reported when the catalog is read.
        if not is_url(path) and os.access(Path(path, COLLECTION_PROPERTIES), os.R_OK):
            primary = primary_of(path)
            if is_url(primary):
                check_url("input_catalog_path", primary)
                settings = replace(settings, input_catalog_path=primary)
        replaced.append(settings)
    return replaced


def without_audit(settings: MarginSettings) -> MarginSettings:
    """Return the settings of a margin with the defaults of the keys of audits."""
    defaults = MarginSettings()
    return replace(settings, **{key: getattr(defaults, key) for key in _SETTINGS_OF_AUDITS})


def name_margins(all_settings: Iterable[MarginSettings]) -> list[NamedMargin]:
    """Read the descriptions of the catalogs, and return the margins of a run with their names.

    Margins of one name get different directories of intermediate files, by their output paths.
    """
    margins = []
    for settings in all_settings:
        info = read_catalog_info(settings.input_catalog_path)
        name = margin_name(info, settings)
        margins.append(NamedMargin(info, settings, name, intermediate_dir(settings.tmp_dir, name)))
    counts = Counter(margin.intermediate_dir.absolute() for margin in margins)
    return [
        margin
        if counts[margin.intermediate_dir.absolute()] == 1
        else margin._replace(
            intermediate_dir=intermediate_dir(
                margin.settings.tmp_dir, margin.name, margin.settings.output_path
            )
        )
        for margin in margins
    ]


def margin_name(info: CatalogInfo, settings: MarginSettings) -> str:
    """Return ``output_artifact_name``, or the catalog's name with the threshold."""
    if settings.output_artifact_name:
        return settings.output_artifact_name
    guaranteed = guaranteed_threshold(settings)
    # The threshold of an order has too many digits for a name.
    precision = None if guaranteed == settings.margin_threshold else 6
    threshold = np.format_float_positional(
        guaranteed, precision=precision, fractional=False, trim="-"
    )
    name = f"{info.name}_{threshold}arcs"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{,127}", name):
        raise MarginCacheError(
            f"output_artifact_name: the catalog's name {info.name!r} cannot be part of a directory "
            'name. Give a name of at most 128 letters, digits, ".", "_" and "-".'
        )
    return name
