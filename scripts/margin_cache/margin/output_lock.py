"""Which run is at work at a margin that is written to a URL: stores have no locks, but this.

An object beside the margin's files says so. Only the run that wrote it, or one that is started
again in the same directory, writes there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from margin_cache.catalog.spec import (
    CATALOG_INFO,
    COMMON_METADATA,
    METADATA,
    PARTITION_INFO,
    PROPERTIES,
)
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import PROVENANCE, MarginFiles
from margin_cache.storage.files import read_json, unique_id, write_json

LOCK_OBJECT = ".being_made.json"
"""The object that says which run is at work."""

DESCRIPTIONS = (CATALOG_INFO, *reversed(PROPERTIES))
"""What readers ask for first, in the order in which it is written."""


def new_output_lock(margin: Margin, run: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a run at work at a margin.

    Args:
        margin: the margin.
        run: the run: its process, host and directory.
    """
    owner = run_token(margin.files)
    if owner is None:
        owner = unique_id()
        write_json(_owner_file(margin.files), owner)
    return {**run, **work_of(margin), "owner": owner}


def work_of(margin: Margin) -> dict[str, Any]:
    """Return what is being made, as a claim has it."""
    return {"plan": margin.plan.plan_id, "state": margin.plan.input_fingerprint}


def is_resumed(margin: Margin) -> bool:
    """Tell whether a run of the same directory was at work at a margin, and did not end.

    One with other parameters does not count, unless ``overwrite`` is set: an older margin may have
    been its own, and not be replaced by this one.

    Raises:
        MarginCacheError: one of another directory was, or is.
    """
    path = margin.files.output_dir / LOCK_OBJECT
    if not margin.files.url or not path.exists():
        return False
    claim = read_json(path)
    if not is_own_lock(margin):
        raise in_use(margin.files.url, claim)
    return bool(margin.settings.overwrite or claim.get("plan") == margin.plan.plan_id)


def is_own_lock(margin: Margin) -> bool:
    """Tell whether a run of this directory has said that it is at work at a margin."""
    claim, owner = read_json(margin.files.output_dir / LOCK_OBJECT), run_token(margin.files)
    return owner is not None and isinstance(claim, dict) and claim.get("owner") == owner


def in_use(url: str, claim: Any) -> MarginCacheError:
    """Return the error that says that another run is at work at a margin.

    Args:
        url: the URL of the margin.
        claim: what that run says of itself.
    """
    return MarginCacheError(
        f"output_path: {url} is being made by another run ({run_in_words(claim)}); go on with that "
        "one there; or, if it has ended for good, remove the object "
        f"{url}/{LOCK_OBJECT}; or choose another output_artifact_name"
    )


def run_in_words(run: Any) -> str:
    """Return which run a claim or a lock tells of, as far as it does."""
    if not isinstance(run, dict) or not {"process", "host", "directory"} <= run.keys():
        return "which does not say who it is"
    return f"process {run['process']} on {run['host']}, started in {run['directory']}"


def read_output_lock(content: bytes) -> Any:
    """Return what the content of a claim says, or None."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def names_while_made(margin: Margin) -> Iterator[str]:
    """Yield the paths of all objects that a run at work at a margin may write."""
    dataset = margin.plan.parameters.catalog.dataset
    yield from (LOCK_OBJECT, PROVENANCE, PARTITION_INFO, *DESCRIPTIONS)
    for name in (COMMON_METADATA, METADATA):
        yield f"{dataset}/{name}".lstrip("/")
    for number in range(len(margin.plan.destination_orders)):
        yield margin.plan.margin_path(number)


def run_token(files: MarginFiles) -> str | None:
    """Return what tells the runs of this directory from all others, once one has begun."""
    found = read_json(_owner_file(files))
    return found if isinstance(found, str) else None


def _owner_file(files: MarginFiles) -> Path:
    return files.output_dir.with_name(".owner.json")
