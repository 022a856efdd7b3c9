"""A margin with its name, settings and plan, and how jobs load it from files."""

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from margin_cache.catalog.hats import primary_of
from margin_cache.catalog.spec import COLLECTION_PROPERTIES
from margin_cache.config.model import MarginSettings, Table, key_of
from margin_cache.errors import DamagedFileError, RetryableError
from margin_cache.margin.output import Output
from margin_cache.margin.paths import DONE, TMP_DIR, MarginFiles, PlanFiles
from margin_cache.margin.remote import Sources, load_options, save_source, use_catalog
from margin_cache.planning.model import Plan, load_plan, save_plan
from margin_cache.storage.files import read_json, write_json
from margin_cache.storage.urls import canonical_url, check_url, is_url, join_url

PATIENCE = 10.0
"""Time in which a file server shows what another machine has written (seconds)."""

_SETTINGS_OF_AUDITS = frozenset(
    key.name for key in fields(MarginSettings) if key_of(key.type).table == Table.AUDIT
)


@dataclass(frozen=True)
class Margin:
    """A margin with its plan.

    Attributes:
        sources: where jobs find the storage options of a remote catalog, and of an output bucket.
        may_be_default: whether it becomes the default margin of its collection if there is none.
        shards_of: plan directory of another margin whose shards it is made from; None if it has map
            jobs of its own.
        is_finished_by_reducing: whether its only reduce job does what the finishing job would do.
    """

    settings: MarginSettings
    name: str
    plan: Plan
    sources: Sources = (None, None)
    may_be_default: bool = True
    shards_of: Path | None = None
    is_finished_by_reducing: bool = False

    @property
    def intermediate_dir(self) -> Path:
        return Path(self.settings.tmp_dir or TMP_DIR, self.name)

    @cached_property
    def files(self) -> MarginFiles:
        plan_dir, output_path = self.intermediate_dir / self.plan.plan_id, self.settings.output_path
        if is_url(output_path):
            url = canonical_url(join_url(output_path, self.name))
            return MarginFiles(plan_dir, self.intermediate_dir / self.name, url)
        return MarginFiles(plan_dir, Path(output_path, self.name))

    @property
    def shard_files(self) -> PlanFiles:
        """The files with the shards that the margin is made from."""
        return PlanFiles(self.shards_of or self.files.plan_dir)

    @cached_property
    def output(self) -> Output:
        """Where the margin is put, with what is there now."""
        files = self.files
        if not files.url:
            return Output(files.output_dir)
        # Slow to import, and not needed for margins on disk.
        from margin_cache.margin.store_output import StoreOutput

        options = self.output_options(), self._catalog_options()
        return StoreOutput(files.url, *options, files.run_token)

    def output_options(self) -> Mapping[str, Any]:
        """Return the storage options of the margin's URL."""
        if self.sources[1] is not None:
            return self.settings.output_storage_options
        return load_options(self.files.output_storage_file)

    def _catalog_options(self) -> Mapping[str, Any]:
        if self.sources[0] is not None:
            return self.settings.input_storage_options
        return load_options(self.files.storage_file)

    def use_catalog(self) -> None:
        """Let this process read the catalog, in the states of the plan, if it is remote."""
        if url := self.plan.parameters.catalog.url:
            use_catalog(url, self.files)

    @property
    def done_file(self) -> Path:
        """The file that is written last, for the present state of the catalog."""
        fingerprint = self.plan.input_fingerprint
        return Path(DONE.format(plan_dir=self.files.plan_dir, fingerprint=fingerprint))


def save_margin(margin: Margin) -> None:
    """Write what jobs need to load a margin, unless it is on disk already."""
    margin.plan.parameters.catalog.files.save_listing(margin.files.listing)
    save_plan(margin.plan, margin.files.plan)
    catalog_source, output_source = margin.sources
    save_source(catalog_source, margin.files.storage_file)
    save_source(output_source, margin.files.output_storage_file)
    record = {
        "name": margin.name,
        "settings": settings_as_json(margin.settings),
        "may_be_default": margin.may_be_default,
        "shards_of": margin.shards_of and str(margin.shards_of),
        "is_finished_by_reducing": margin.is_finished_by_reducing,
    }
    if read_json(margin.files.margin_file) != record:
        write_json(margin.files.margin_file, record)


def load_margin(path: Path) -> Margin:
    record = read_json(path)
    try:
        values = record["settings"]
        pixels = tuple(tuple(pixel) for pixel in values["debug_filter_pixel_list"])
        settings = MarginSettings(**{**values, "debug_filter_pixel_list": pixels})
        name, may_be_default = record["name"], record["may_be_default"]
        shards_of = record["shards_of"] and Path(record["shards_of"])
        by_reducing = bool(record["is_finished_by_reducing"])
    except (TypeError, KeyError):
        raise DamagedFileError(path) from None
    plan = load_plan(PlanFiles(path.parent).plan)
    return Margin(settings, name, plan, (None, None), may_be_default, shards_of, by_reducing)


def load_margins(all_settings: Iterable[MarginSettings]) -> list[Margin]:
    """Load the margins that the main process has prepared, without listing the catalogs.

    Older plans may have the same settings as the current one; all are returned.
    """
    return [
        load_margin(file)
        for settings in with_primary_tables(all_settings)
        for file in _find_margin_files(settings)
    ]


def _find_margin_files(settings: MarginSettings) -> list[Path]:
    """Find the ``margin.json`` of all plans with some settings; wait for a slow file server."""
    directory, wanted = Path(settings.tmp_dir or TMP_DIR), settings_as_json(settings)
    end = time.monotonic() + PATIENCE
    while True:
        files = [plan.with_name("margin.json") for plan in sorted(directory.glob("*/*/plan.npz"))]
        found = [
            file
            for file in files
            if isinstance(record := read_json(file), dict) and record.get("settings") == wanted
        ]
        if found:
            return found
        if time.monotonic() >= end:
            node = os.environ.get("SLURMD_NODENAME", platform.node())
            raise RetryableError(
                f"tmp_dir: {directory.absolute()} has no plan of this configuration on {node}, "
                "which runs a job. Use a file system that all nodes see, and do not change the "
                "configuration during a run."
            )
        time.sleep(min(1.0, PATIENCE / 5))
        with suppress(OSError):  # makes a network file system ask its server
            next(directory.parent.iterdir(), None)


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
