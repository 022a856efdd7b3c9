"""The configuration: checked against the schema, and turned into the settings of each margin."""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from margin_cache.errors import MarginCacheError
from margin_cache.nested import finest_coarse_order

_DASK_KEYS = {
    "dask_tmp": "--default-resources tmpdir=DIRECTORY",
    "dask_n_workers": "--cores N on one machine, or --jobs N on a cluster",
    "dask_threads_per_worker": "--set-threads map_partitions=N",
}


@dataclass(frozen=True)
class MarginSettings:
    """The settings of one margin: the keys of the configuration, checked."""

    input_catalog_path: str
    output_path: str
    output_artifact_name: str
    margin_threshold: float
    margin_order: int
    fine_filtering: bool
    debug_filter_pixel_list: tuple[tuple[int, int], ...]
    overwrite: bool
    tmp_dir: str
    delete_intermediate_parquet_files: bool
    partitions_per_job: int | str
    job_size_mb: float
    create_metadata: bool

    def cell_order(self, index_order: int) -> int:
        """Return the order of the coarse filter's cells.

        Args:
            index_order: order of the catalog's spatial index, the finest that cells can have.
        """
        finest = min(finest_coarse_order(self.margin_threshold), index_order)
        if self.margin_order < 0:
            return finest
        if self.margin_order > finest:
            raise MarginCacheError(
                f"margin_order: {self.margin_order} is too fine for a margin_threshold of "
                f"{self.margin_threshold:g} arcsec in this catalog; use an order from 0 to "
                f"{finest}, or -1 to have it chosen"
            )
        return self.margin_order


def settings_of_margins(config: Mapping[str, Any], schema_path: Path) -> list[MarginSettings]:
    """Check a configuration and return the settings of its margins.

    Args:
        config: the configuration as Snakemake holds it.
        schema_path: the JSON schema, a YAML file, which also has the defaults.

    Raises:
        MarginCacheError: a key is unknown, or its value is not allowed.
    """
    schema = yaml.safe_load(schema_path.read_text(encoding="utf-8"))
    _check_keys(config, schema["properties"], "")
    for number, margin in enumerate(config.get("margins") or []):
        if isinstance(margin, Mapping):
            known = schema["properties"]["margins"]["items"]["properties"]
            _check_keys(margin, known, f"margins[{number}]: ")
    _check_values(config, schema)
    defaults = {key: entry["default"] for key, entry in schema["properties"].items()}
    common = {**defaults, **config}
    overrides = common.pop("margins") or [{}]
    return [_settings({**common, **margin}) for margin in overrides]


def _settings(values: Mapping[str, Any]) -> MarginSettings:
    values = {field.name: values[field.name] for field in fields(MarginSettings)}
    pixels = tuple((int(order), int(pixel)) for order, pixel in values["debug_filter_pixel_list"])
    for order, pixel in pixels:
        if pixel >= 12 * 4**order:
            raise MarginCacheError(
                f"debug_filter_pixel_list: there is no pixel {pixel} at order {order}; "
                f"the last one is {12 * 4**order - 1}"
            )
    threshold = float(values["margin_threshold"])
    coarse = finest_coarse_order(threshold)
    if values["margin_order"] > coarse:
        raise MarginCacheError(
            f"margin_order: {values['margin_order']} is too fine for a margin_threshold of "
            f"{threshold:g} arcsec; use an order from 0 to {coarse}, or -1 to have it chosen"
        )
    return MarginSettings(
        **{
            **values,
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
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise MarginCacheError(
                f"{where}{key}: there is no such key; the nearest is {near[0]} "
                f"(config/README.md lists all)"
            )


def _check_values(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    plain = {key: value for key, value in config.items() if value is not None}
    if len(plain) < len(config):
        key = next(key for key in config if config[key] is None)
        raise MarginCacheError(f"{key}: has no value; give it one or leave the key out")
    if error := jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(config)
    ):
        raise MarginCacheError(_one_line(error))
    for where, values in [("", config)] + [
        (f"margins[{number}]: ", margin) for number, margin in enumerate(config.get("margins", []))
    ]:
        for key, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise MarginCacheError(f"{where}{key}: {value} is not a finite number")


def _one_line(error: jsonschema.ValidationError) -> str:
    """Say in one line which key has a wrong value, and what the key is for."""
    key = "".join(
        f"[{part}]" if isinstance(part, int) else f"{'.' if number else ''}{part}"
        for number, part in enumerate(error.absolute_path)
    )
    value = json.dumps(error.instance, ensure_ascii=False, default=str)
    rules = {
        "type": lambda rule: f"is not of type {rule}",
        "minimum": lambda rule: f"is less than the least value, {rule}",
        "maximum": lambda rule: f"is more than the greatest value, {rule}",
        "exclusiveMinimum": lambda rule: f"is not greater than {rule}",
        "oneOf": lambda _: "is neither auto nor a whole number of 1 or more",
        "pattern": lambda _: 'has other characters than letters, digits, ".", "_" and "-"',
        "minLength": lambda _: "is empty",
    }
    wrong = rules.get(error.validator, lambda _: "is not an [order, pixel] pair")(
        error.validator_value
    )
    return f"{key}: {value} {wrong}"
