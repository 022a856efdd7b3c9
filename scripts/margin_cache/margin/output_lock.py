"""The lock of a margin that is written to a bucket: an object beside the margin's files.

Buckets have no locks of their own. Only the run that wrote the object, or a later run that is
started in the same directory, may write there.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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

METADATA_FILES = (CATALOG_INFO, *reversed(PROPERTIES))
"""The files by which readers find a catalog, in the order in which they are written."""


@dataclass(frozen=True)
class OutputLock:
    """The content of the lock object: the run that owns the lock.

    Attributes:
        process, host, directory: where the run is active.
        plan: id of the margin's plan.
        content: the margin's content id, which is the same for all runs with ``resume: false``.
        fingerprint: of the catalog's files.
        run_token: the same for all runs of one working directory.
    """

    process: int
    host: str
    directory: str
    plan: str
    content: str
    fingerprint: str
    run_token: str

    def is_for(self, margin: Margin) -> bool:
        plan = margin.plan
        return (self.plan, self.fingerprint) == (plan.plan_id, plan.input_fingerprint)

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def new_output_lock(margin: Margin, run: dict[str, Any]) -> OutputLock:
    """Return the lock of a run; create the run token of its directory if it is missing."""
    token = run_token(margin.files)
    if token is None:
        token = unique_id()
        write_json(_token_file(margin.files), token)
    return OutputLock(
        run["process"],
        run["host"],
        run["directory"],
        margin.plan.plan_id,
        margin.plan.content_id,
        margin.plan.input_fingerprint,
        token,
    )


def parse_output_lock(content: bytes) -> OutputLock | None:
    """Return the lock that an object has; None if the object is damaged."""
    try:
        lock = OutputLock(**json.loads(content))
    except (ValueError, TypeError):
        return None
    return lock if isinstance(lock.run_token, str) else None


def listed_lock(files: MarginFiles) -> OutputLock | None:
    """Return the lock in the local listing of a bucket; None if there is none, or it is damaged."""
    try:
        return parse_output_lock((files.output_dir / LOCK_OBJECT).read_bytes())
    except FileNotFoundError:
        return None


def is_resumed(margin: Margin) -> bool:
    """Return whether an earlier run of this directory has not finished the margin.

    A run with other parameters counts only with `overwrite`: the margin that it was about to
    replace may be somebody else's.

    Raises:
        MarginCacheError: a run of another directory has the lock.
    """
    if not margin.files.url or not (margin.files.output_dir / LOCK_OBJECT).exists():
        return False
    lock = listed_lock(margin.files)
    if lock is None or lock.run_token != run_token(margin.files):
        raise in_use(margin.files.url, lock)
    return bool(margin.settings.overwrite or lock.content == margin.plan.content_id)


def is_own_lock(margin: Margin) -> bool:
    """Return whether a run of this directory has the lock."""
    lock = listed_lock(margin.files)
    return lock is not None and lock.run_token == run_token(margin.files)


def in_use(url: str, lock: OutputLock | None) -> MarginCacheError:
    """Return the error for a margin that another run is making."""
    run = describe_run(None if lock is None else asdict(lock))
    return MarginCacheError(
        f"output_path: {url} is being made by another run ({run}). Resume that run, or choose "
        f"another output_artifact_name. If that run has ended for good, remove the object "
        f"{url}/{LOCK_OBJECT}."
    )


def describe_run(run: Any) -> str:
    """Describe the run in a lock, whose content may be damaged."""
    if not isinstance(run, dict) or not {"process", "host", "directory"} <= run.keys():
        return "unknown process"
    return f"process {run['process']} on {run['host']}, started in {run['directory']}"


def names_while_made(margin: Margin) -> Iterator[str]:
    """Yield the paths of all objects that a run may write."""
    dataset = margin.plan.parameters.catalog.dataset
    yield from (LOCK_OBJECT, PROVENANCE, PARTITION_INFO, *METADATA_FILES)
    for name in (COMMON_METADATA, METADATA):
        yield f"{dataset}/{name}".lstrip("/")
    for number in range(len(margin.plan.destination_orders)):
        yield margin.plan.margin_path(number)


def run_token(files: MarginFiles) -> str | None:
    """Return the token of all runs of this directory; None before the first run."""
    token = read_json(_token_file(files))
    return token if isinstance(token, str) else None


def _token_file(files: MarginFiles) -> Path:
    return files.output_dir.with_name(".run_token.json")
