"""A margin in the making: its name, its plan, and where its files lie.

``tmp_dir/NAME/margin.json`` holds the settings and the key of the plan, for processes that are
started by the main one. Everything else of a plan lies in ``tmp_dir/NAME/KEY``. The margin is
built in a hidden directory beside its place and moved there when it is whole.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.model import CatalogInfo
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.planning.model import Plan, load_plan, shard_path
from margin_cache.storage.files import read_json


@dataclass(frozen=True)
class Margin:
    """A margin, with the plan to make it.

    Attributes:
        settings: its settings.
        name: its name.
        plan: its plan.
    """

    settings: MarginSettings
    name: str
    plan: Plan

    @property
    def intermediate(self) -> Path:
        """Return the directory of all intermediate files of margins of this name."""
        return intermediate_directory(self.settings, self.name)

    @cached_property
    def work(self) -> Path:
        """Return the directory of the plan's intermediate files."""
        return self.intermediate / self.plan.key

    @property
    def plan_path(self) -> Path:
        """Return the file that holds the plan."""
        return self.work / "plan.npz"

    @property
    def place(self) -> Path:
        """Return the directory of the finished margin."""
        return Path(self.settings.output_path) / self.name

    @property
    def building(self) -> Path:
        """Return the directory in which the margin is built."""
        return self.place.with_name(f".{self.name}.{self.plan.key}.building")

    @property
    def replaced(self) -> Path:
        """Return where an older margin lies in the moment in which it is replaced."""
        return self.place.with_name(f".{self.name}.{self.plan.key}.replaced")

    def shard(self, map_name: str) -> Path:
        """Return the shard of a map job."""
        return shard_path(self.work, map_name)

    def receipt(self, reduce_name: str) -> Path:
        """Return the receipt of a reduce job."""
        return self.work / "receipts" / f"{reduce_name}.json"

    def footers(self, reduce_name: str) -> Path:
        """Return the footers of the files of a reduce job."""
        return self.work / "receipts" / f"{reduce_name}.parquet"

    @property
    def finished(self) -> Path:
        """Return the receipt that is written last of all."""
        return self.work / f"finished-{self.plan.state}.json"

    @property
    def placed(self) -> Path:
        """Return the copy of the provenance of the margin that was last put in its place."""
        return self.work / "placed.json"


def intermediate_directory(settings: MarginSettings, name: str) -> Path:
    """Return the directory of all intermediate files of margins of a name."""
    return Path(settings.tmp_dir or "intermediate") / name


def load_margins(all_settings: Iterable[MarginSettings]) -> list[Margin]:
    """Load the margins that the main process has prepared, without a look at the catalogs."""
    margins = []
    for settings in all_settings:
        info = read_catalog_info(settings.input_catalog_path)
        name = margin_name(info, settings)
        note = read_json(intermediate_directory(settings, name) / "margin.json")
        if note is None or note["settings"] != plain_settings(settings):
            raise MarginCacheError(
                f"{intermediate_directory(settings, name)}: was planned with another configuration "
                "meanwhile; start the run again"
            )
        plan = load_plan(intermediate_directory(settings, name) / note["key"] / "plan.npz")
        margins.append(Margin(settings, name, plan))
    return margins


def load_margin(note_path: Path) -> Margin:
    """Load the margin that a ``margin.json`` tells of."""
    note = read_json(note_path)
    values = note["settings"]
    pixels = tuple(tuple(pixel) for pixel in values["debug_filter_pixel_list"])
    settings = MarginSettings(**{**values, "debug_filter_pixel_list": pixels})
    plan = load_plan(note_path.parent / note["key"] / "plan.npz")
    return Margin(settings, note["name"], plan)


def plain_settings(settings: MarginSettings) -> dict[str, Any]:
    """Return settings as JSON has them."""
    return json.loads(json.dumps(asdict(settings)))


def margin_name(info: CatalogInfo, settings: MarginSettings) -> str:
    """Return the name of a margin: the one given, or the catalog's with the threshold."""
    if settings.output_artifact_name:
        return settings.output_artifact_name
    threshold = np.format_float_positional(settings.margin_threshold, trim="-")
    name = f"{info.name}_{threshold}arcs"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{,127}", name):
        raise MarginCacheError(
            f"output_artifact_name: the catalog's own name, {info.name!r}, does not make a name; "
            'give one of at most 128 letters, digits, ".", "_" and "-"'
        )
    return name
