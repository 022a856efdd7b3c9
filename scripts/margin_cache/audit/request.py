"""What an audit is asked to check, and the pieces of the sky that its jobs look at."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from margin_cache.audit.pixels import FINEST, Pixel, beginning
from margin_cache.audit.whole_files import whole_file
from margin_cache.errors import MarginCacheError

SKY = 12 << 2 * FINEST
"""The end of the nested numbers of the finest pixels."""


@dataclass(frozen=True)
class SkyRange:
    """What a job looks at: all pixels, of whatever order, that begin in a range of the sky.

    Attributes:
        name: The job's name.
        first: The first of the finest pixels of the range, by its nested number.
        end: The one after the last.
    """

    name: str
    first: int
    end: int

    def has(self, pixel: Pixel) -> bool:
        """Whether a pixel is one that the job looks at."""
        return self.first <= beginning(pixel) < self.end


@dataclass(frozen=True)
class AuditRequest:
    """What is checked, and how.

    Attributes:
        primary: Directory of the primary.
        margin: Directory of the margin.
        output_dir: Where the files are written that say what is found.
        threshold: Arcsec; None for that of the margin's metadata.
        cell_order: Order of the cells of a coarse margin; None for an exact one.
        fraction: How many of the pixels are looked at.
        seed: Determines which ones.
        state: Digest of the names, sizes and times of the files of both catalogs.
        pieces: What the jobs look at, which together is the whole sky.
    """

    primary: str
    margin: str
    output_dir: str
    threshold: float | None = None
    cell_order: int | None = None
    fraction: float = 1.0
    seed: int = 0
    state: str = ""
    pieces: tuple[SkyRange, ...] = (SkyRange("all", 0, SKY),)

    def __post_init__(self) -> None:
        """Check that no place of the sky is in no piece, or in two."""
        ends = [0, *(piece.end for piece in self.pieces)]
        if [piece.first for piece in self.pieces] != ends[:-1] or ends[-1] != SKY:
            raise ValueError("the pieces are not the whole sky")

    def piece(self, name: str) -> SkyRange:
        """Return the piece of a job."""
        return next(piece for piece in self.pieces if piece.name == name)


def cut_sky(names: list[str], firsts: list[int]) -> tuple[SkyRange, ...]:
    """Cut the whole sky into pieces.

    Args:
        names: Their names.
        firsts: Where they begin, ascending; the first of all begins the sky, whatever it says.
    """
    starts = [0, *firsts[1:]]
    return tuple(map(SkyRange, names, starts, [*starts[1:], SKY]))


def is_chosen(pixel: Pixel, fraction: float, seed: int) -> bool:
    """Whether a pixel is in the sample: with the probability `fraction`, whatever the others are.

    Args:
        pixel: Order and nested number.
        fraction: How many of the pixels are.
        seed: Determines which ones.
    """
    digest = hashlib.blake2b(f"{seed} {pixel[0]} {pixel[1]}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def tree_state(directory: Path) -> str:
    """Return a digest of the names, sizes and times of all files below a directory.

    Raises:
        MarginCacheError: It cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    waiting, seen = [directory], set()
    try:
        while waiting:
            place = waiting.pop()
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:  # links can lead in circles
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
                        continue
                    status = entry.stat(follow_symlinks=Path(entry.path).exists())
                    line = f"{entry.path}/{status.st_size}/{status.st_mtime_ns}\n"
                    digest.update(os.fsencode(line))
    except OSError as error:
        raise MarginCacheError(
            f"{error.filename or directory}: cannot be read ({error.strerror}); name a catalog"
        ) from None
    return digest.hexdigest()


def check_state(request: AuditRequest) -> None:
    """Check that both catalogs are still as they were when the audit began.

    Raises:
        MarginCacheError: One has changed.
    """
    if request.state != catalogs_state(request.primary, request.margin):
        raise MarginCacheError(
            f"{request.margin}: it, or its primary, was changed while it was audited; start again"
        )


def catalogs_state(primary: str, margin: str) -> str:
    """Return a digest of the names, sizes and times of the files of a primary and a margin.

    Raises:
        MarginCacheError: One cannot be read.
    """
    return tree_state(Path(primary)) + tree_state(Path(margin))


def request_id(request: AuditRequest) -> str:
    """Return a digest of all that the findings follow from, the code of the audit too."""
    digest = hashlib.blake2b(json.dumps(asdict(request)).encode(), digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def save_request(request: AuditRequest, path: Path) -> None:
    """Write a request, if it is not there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write_text(json.dumps(asdict(request)), encoding="utf-8")


def load_request(path: Path) -> AuditRequest:
    """Read a request.

    Raises:
        MarginCacheError: It is missing or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return AuditRequest(**{**values, "pieces": tuple(SkyRange(**p) for p in values["pieces"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MarginCacheError(
            f"{path}: cannot be read ({error}); delete it, and start the audit again"
        ) from None
