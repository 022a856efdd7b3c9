"""The request of an audit: the pixels that its jobs check, and the state of both catalogs."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import write_text
from margin_cache.storage.urls import is_url

Options = Mapping[str, Any] | None  # of a store, named as those of fsspec
StoreOptions = tuple[Options, Options]  # of the primary and of the margin

AUDIT_JSON, AUDIT_MAP = "audit.json", "audit.png"

Record = TypeVar("Record")

Pixel = tuple[int, int]  # order and nested number

FINEST_ORDER = 29
SKY_END = 12 << 2 * FINEST_ORDER  # pixels of the finest order on the whole sky


@dataclass(frozen=True)
class SkyRange:
    """The part of the sky that one job checks: all pixels, of any order, that begin in it.

    It has the name of the job, and ends before the pixel ``end`` of the finest order.
    """

    name: str
    first: int
    end: int

    def contains(self, pixel: Pixel) -> bool:
        return self.first <= first_descendant(pixel) < self.end


def cut_sky(names: Sequence[str], firsts: Sequence[int]) -> tuple[SkyRange, ...]:
    """Cut the whole sky into ranges with these names and first pixels of the finest order."""
    starts = [0, *firsts[1:]]  # the first range begins at pixel 0 in any case
    return tuple(map(SkyRange, names, starts, [*starts[1:], SKY_END]))


def first_descendant(pixel: Pixel) -> int:
    order, number = pixel
    return number << 2 * (FINEST_ORDER - order)


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


def read_dataclass(kind: type[Record], path: Path) -> Record:
    """Read what an earlier job has written as JSON."""
    # Slow to import, and not needed for what a workflow does before its first job.
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise MarginCacheError(
            f"{path}: this intermediate file of the audit is missing or damaged. Delete it if it "
            "exists, and start the audit again."
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
    if request.states != catalogs_states(request.primary, request.margin, options):
        raise MarginCacheError(
            f"{request.margin}: the margin or its primary changed during the audit. "
            "Start the audit again."
        )


def remove_results(directory: Path) -> None:
    for name in (AUDIT_JSON, AUDIT_MAP):
        (directory / name).unlink(missing_ok=True)


def sort_nested(pixels: Collection[Pixel]) -> list[Pixel]:
    """Return pixels in nested order, in which successive pixels are mostly near one another."""
    return sorted(pixels, key=lambda pixel: (first_descendant(pixel), pixel[0]))


def is_in_sample(pixel: Pixel, fraction: float, seed: int) -> bool:
    """Return whether a sample contains a pixel, independently of all other pixels."""
    digest = hashlib.blake2b(f"{seed} {pixel[0]} {pixel[1]}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def uncovered_sky(pixels: Collection[Pixel]) -> list[Pixel]:
    """Return the largest pixels that cover the sky outside of `pixels`."""
    covered, ancestors = set(pixels), _ancestors(pixels)
    uncovered, level = [], [(0, number) for number in range(12)]
    while level:
        outside = [pixel for pixel in level if pixel not in covered]
        uncovered += [pixel for pixel in outside if pixel not in ancestors]
        level = [
            (order + 1, 4 * number + child)
            for order, number in outside
            if (order, number) in ancestors
            for child in range(4)
        ]
    return uncovered


def overlapping_pixels(pixels: Collection[Pixel], partitions: Collection[Pixel]) -> list[Pixel]:
    """Return the pixels that lie inside a partition or contain one, and are none themselves."""
    known, ancestors = set(partitions), _ancestors(partitions)
    return sorted(
        pixel
        for pixel in set(pixels) - known
        if pixel in ancestors or not known.isdisjoint(_ancestors([pixel]))
    )


def restrict(pixels: Collection[Pixel], only: Collection[Pixel]) -> list[Pixel]:
    """Return those of `pixels` that overlap a pixel of `only`, sorted; all if there is none."""
    if not only:
        return sorted(pixels)
    return sorted({*pixels} & {*only} | {*overlapping_pixels(pixels, only)})


def _ancestors(pixels: Collection[Pixel]) -> set[Pixel]:
    return {(order - up, n >> 2 * up) for order, n in pixels for up in range(1, order + 1)}
