"""Checks of the values of keys, one by one, against a model."""

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import chain, repeat
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from margin_cache.config.keys import key_of
from margin_cache.config.model import RunSettings
from margin_cache.errors import MarginCacheError

_NO_DASK = "this workflow does not use dask; instead, give snakemake"
_NO_BAR = "bars of the stages are drawn on a terminal, unless progress_bar is false"
_NO_SKYMAP = "a margin has no sky map, in hats-import neither; leave the key out"

_NEEDLESS_KEYS = {
    "dask_tmp": f"{_NO_DASK} --default-resources tmpdir=DIRECTORY",
    "dask_n_workers": f"{_NO_DASK} --cores N on one machine, or --jobs N on a cluster",
    "dask_threads_per_worker": f"{_NO_DASK} --set-threads map_partitions=N, for N threads a job",
    "simple_progress_bar": _NO_BAR,
    "tqdm_kwargs": _NO_BAR,
    "resume_tmp": "what a run goes on from lies among its intermediate files; give tmp_dir instead",
    "delete_resume_log_files": "receipts and logs, which are small, stay for a later run to go on "
    "from; to be rid of them, delete the margin's directory in tmp_dir",
    "row_group_kwargs": "does nothing for margins, in hats-import neither; row groups have as many "
    "rows as the primary's, or as write_table_kwargs: {row_group_size: N} says",
    "should_write_skymap": _NO_SKYMAP,
    "skymap_alt_orders": _NO_SKYMAP,
    "create_skymap_png": _NO_SKYMAP,
    "catalog_path": "is what output_path and output_artifact_name make; give these instead",
    "tmp_path": "is what tmp_dir and output_artifact_name make; give these instead",
    "tmp_base_path": "is what tmp_dir and output_artifact_name make; give these instead",
}
"""Arguments of hats-import and hipscat-import that are no keys here, and what serves instead."""

_WRONG = {
    "float_type": "is not of type number",
    "int_type": "is not of type integer",
    "bool_type": "is not of type boolean",
    "string_type": "is not of type string",
    "tuple_type": "is not of type array",
    "dict_type": "is not of type object, a mapping of keys to values",
    "greater_than_equal": "is less than the least value, {ge}",
    "less_than_equal": "is more than the greatest value, {le}",
    "literal_error": "is not one of {expected}",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
}
"""What is wrong with a value, by pydantic's name of the error."""


def annotations_of(model: type) -> dict[str, Any]:
    """Return the annotations of the keys of a model."""
    return {field.name: field.type for field in fields(model)}


def check_values(values: Mapping[str, Any], model: type, where: str) -> dict[str, Any]:
    """Return the values of keys of a model, each as its type.

    Args:
        values: the values of any of the keys.
        model: the model; where it has another model in it, only mappings are asked for.
        where: where the keys stand, to begin a message with.

    Raises:
        MarginCacheError: a key is unknown, or its value is not allowed.
    """
    annotations = annotations_of(model)
    check_keys(values, annotations, where)
    checked = {}
    for key, value in values.items():
        value = _as_typed(value, annotations[key])
        if value is None:
            raise MarginCacheError(f"{where}{key}: has no value; give it one or leave the key out")
        if isinstance(value, str) and "\0" in value:
            raise MarginCacheError(f"{where}{key}: {_as_json(value)} has a NUL character")
        try:
            checked[key] = _adapter(model, key).validate_python(value, strict=True)
        except ValidationError as error:
            raise MarginCacheError(where + _one_line(key, annotations[key], error)) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise MarginCacheError(f"{where}{key}: {value} is not a finite number")
    return checked


@cache
def _adapter(model: type, key: str) -> TypeAdapter[Any]:
    """Return what checks the value of a key."""
    annotation = annotations_of(model)[key]
    base = _types_of(annotation)[0]
    if is_dataclass(base):
        return TypeAdapter(dict[Any, Any])
    if get_origin(base) is tuple and is_dataclass(get_args(base)[0]):
        return TypeAdapter(tuple[dict[Any, Any], ...])
    return TypeAdapter(annotation)


def _types_of(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without their limits."""
    if get_origin(annotation) is Annotated:
        return _types_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [found for part in get_args(annotation) for found in _types_of(part)]
    return [annotation]


def _as_typed(value: Any, annotation: Any) -> Any:
    """Return a value as the type that an annotation asks for, where it came as text or number.

    Snakemake reads what follows ``--config`` as a number, True, False or else as text, inside
    brackets as well. What cannot be converted is returned as it came.
    """
    types = _types_of(annotation)
    arrays = [each for each in types if get_origin(each) is tuple]
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
        each = repeat(first) if others == [...] else chain([first, *others], repeat(Any))
        return tuple(map(_as_typed, value, each))
    return value


def check_keys(config: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Check that keys are known.

    Args:
        config: the keys, with their values.
        known: the keys that there are.
        where: where the keys stand, to begin a message with.

    Raises:
        MarginCacheError: a key is unknown; the message names the nearest known one.
    """
    known = list(known)
    for key in config:
        if key in known:
            continue
        if key in _NEEDLESS_KEYS:
            raise MarginCacheError(f"{where}{key}: {_NEEDLESS_KEYS[key]}")
        if key in annotations_of(RunSettings):
            raise MarginCacheError(f"{where}{key}: is for the whole run; put it outside margins")
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
        raise MarginCacheError(
            f"{where}{key}: there is no such key; the nearest is {near[0]} "
            "(config/README.md lists all)"
        )


def _one_line(key: str, annotation: Any, error: ValidationError) -> str:
    """Return one line on which key has a wrong value, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    fault, value, path = first["type"], first["input"], first["loc"]
    numbers = [part for part in path if isinstance(part, int)]
    if fault == "missing":
        numbers.pop()  # the value is the array that is too short
    takes = key_of(annotation).takes
    wrong = _WRONG.get(fault, "is not right").format(**_as_words(first.get("ctx", {})))
    if fault in ("greater_than_equal", "less_than_equal") and value != value:
        return f"{key}: {value} is not a finite number"
    if len(numbers) < len(path) and fault != "missing":
        # Pydantic adds to the path which of several types the value is not of.
        wrong = f"is neither {takes.replace(' or ', ' nor ', 1)}"
    elif fault == "string_pattern_mismatch":
        wrong = f"is not {takes}"
    elif takes:
        wrong += f"; the key takes {takes}"
    return f"{key}{''.join(f'[{number}]' for number in numbers)}: {_as_json(value)} {wrong}"


def _as_words(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits, as pydantic has them in its errors, without quotes and needless zeros."""
    return {
        name: int(limit)
        if isinstance(limit, float) and limit.is_integer()
        else str(limit).replace(" or ", ", ").replace("'", "")
        for name, limit in context.items()
    }


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        # It holds itself, which Python's own way of writing it shows.
        return repr(value)
