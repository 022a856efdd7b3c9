"""The request of an audit: what its jobs check, where its results go, and the catalogs' state."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from margin_cache.audit.pixels import SKY_END, Pixel, SkyRange
from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import write_text
from margin_cache.storage.urls import is_url

Options = Mapping[str, Any] | None
"""Options of a store, named as those of fsspec."""

StoreOptions = tuple[Options, Options]
"""Of the primary and of the margin."""

AUDIT_JSON, AUDIT_MAP = "audit.json", "audit.png"

Record = TypeVar("Record")


@dataclass(frozen=True)
class AuditRequest:
    """The catalogs of an audit, as paths or URLs, and its options.

    Where an option is None, the margin's metadata decide.

    Attributes:
        output_dir: Directory of the results.
        threshold: Arcsec.
        cell_order: Order of the cells of a coarse margin.
        fraction: Fraction of the pixels that are checked.
        seed: Seed of this sample.
        states: State of the primary and of the margin when the audit began.
        sky_ranges: What each job checks; together they are the whole sky.
        is_coarse: Whether the margin may have all rows of cells.
        only_pixels: Pixels that the primary is restricted to.
    """

    primary: str
    margin: str
    output_dir: str
    threshold: float | None = None
    cell_order: int | None = None
    fraction: float = 1.0
    seed: int = 0
    states: tuple[str, str] = ("", "")
    sky_ranges: tuple[SkyRange, ...] = (SkyRange("all", 0, SKY_END),)
    is_coarse: bool | None = None
    only_pixels: tuple[Pixel, ...] | None = None

    def __post_init__(self) -> None:
        ends = [0, *(sky_range.end for sky_range in self.sky_ranges)]
        if [sky_range.first for sky_range in self.sky_ranges] != ends[:-1] or ends[-1] != SKY_END:
            raise ValueError("the sky ranges overlap, or are not the whole sky")

    def sky_range(self, job: str) -> SkyRange:
        return next(sky_range for sky_range in self.sky_ranges if sky_range.name == job)


def request_id(request: AuditRequest) -> str:
    """Return a digest of all that determines the findings: the request, and the audit's code."""
    digest = hashlib.blake2b(json.dumps(asdict(request)).encode(), digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def save_request(request: AuditRequest, path: Path) -> None:
    """Write a request, unless the file exists."""
    if not path.exists():
        write_text(path, json.dumps(asdict(request)))


def load_request(path: Path) -> AuditRequest:
    return read_dataclass(AuditRequest, path)


def read_dataclass(kind: type[Record], path: Path) -> Record:
    """Read what an earlier job has written as JSON."""
    # Slow to import, and not needed for what a workflow does before its first job.
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise MarginCacheError(
            f"{path}: is missing or damaged. Delete it, and start the audit again."
        ) from None


def state_of(location: str, options: Options = None) -> str:
    """Return a digest that changes with the files of a catalog, given by its path or URL."""
    if not is_url(location):
        return _state_on_disk(Path(location))
    # Slow to import, and not needed for catalogs on disk.
    from margin_cache.audit.files import state_at_url

    return state_at_url(location, options)


def _state_on_disk(directory: Path) -> str:
    """Return a digest of the names, sizes and times of change of all files below a directory."""
    lines = []
    try:
        directory.stat()
        for place, _, names in os.walk(directory, followlinks=True):
            for path in (Path(place, name) for name in names):
                status = path.stat() if path.exists() else path.lstat()
                # Unlike the time of modification, that of the status cannot be set.
                lines.append(f"{path.relative_to(directory)}/{status.st_size}/{status.st_ctime_ns}")
    except OSError as error:
        raise MarginCacheError(
            f"{error.filename or directory}: cannot be read ({error.strerror or error}). "
            "Give the directory of a catalog."
        ) from None
    return hashlib.blake2b(os.fsencode("\n".join(sorted(lines))), digest_size=16).hexdigest()


def catalogs_states(
    primary: str, margin: str, options: StoreOptions = (None, None)
) -> tuple[str, str]:
    return state_of(primary, options[0]), state_of(margin, options[1])


def check_unchanged(request: AuditRequest, options: StoreOptions = (None, None)) -> None:
    """Check that both catalogs are as they were when the audit began."""
    if request.states != catalogs_states(request.primary, request.margin, options):
        raise MarginCacheError(
            f"{request.margin}: the margin or its primary changed during the audit. "
            "Start the audit again."
        )


def remove_results(directory: Path) -> None:
    for name in (AUDIT_JSON, AUDIT_MAP):
        (directory / name).unlink(missing_ok=True)
