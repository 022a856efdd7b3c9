"""The request of an audit: what its jobs check, where its results go, and the catalogs' state."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from margin_cache.audit.pixels import SKY_END, Pixel, SkyRange
from margin_cache.audit.verdict import AUDIT_JSON, AUDIT_MAP, StoreOptions, state_of
from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import write_text

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
