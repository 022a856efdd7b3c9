"""What an audit finds: in a pixel, in a piece of the sky, and in a whole margin."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from margin_cache.audit.judgement import Judgement
from margin_cache.audit.pixels import Pixel
from margin_cache.audit.whole_files import whole_file
from margin_cache.errors import MarginCacheError


@dataclass(frozen=True)
class PixelReport:
    """What the audit has found in a pixel.

    Attributes:
        pixel: Order and nested number.
        is_partition: Whether the primary has it; if not, it is a piece of the sky beside it.
        is_listed: Whether the margin lists it.
        rows: Rows of its file.
        judgement: Its faulty rows.
        is_unsorted: Whether the file's rows are in another order than that of the spatial index.
        schema: What is wrong with the file's columns.
        error: Why its file cannot be read; empty if it can.
    """

    pixel: Pixel
    is_partition: bool
    is_listed: bool
    rows: int
    judgement: Judgement
    is_unsorted: bool
    schema: list[str]
    error: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong with the pixel's rows and file."""
        return self.judgement.is_clean and not (self.is_unsorted or self.schema or self.error)


@dataclass(frozen=True)
class Findings:
    """What is found in a piece of the sky.

    Attributes:
        candidates: How many pixels of the piece can have rows.
        pixels: What is found in those that were looked at: in all of them, or in a sample.
    """

    candidates: int
    pixels: list[PixelReport]


@dataclass(frozen=True)
class MarginReport:
    """What the audit has found in a margin.

    Attributes:
        threshold: Arcsec.
        cell_order: Order of the cells of a coarse margin; None for an exact one.
        pixels: What is found in the pixels that were looked at.
        metadata: What is wrong with the metadata.
        candidates: How many pixels can have rows.
        fraction: How many of them are looked at.
        seed: Determines which ones.
    """

    threshold: float
    cell_order: int | None
    pixels: list[PixelReport]
    metadata: list[str]
    candidates: int
    fraction: float = 1.0
    seed: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong at all."""
        return not self.metadata and all(report.is_clean for report in self.pixels)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows, or pixels, of each kind of defect there are."""
        found = [report.judgement for report in self.pixels]
        return {
            "missing": sum(len(each.missing) for each in found),
            "false": sum(len(each.false) for each in found),
            "double": sum(len(each.double) for each in found),
            "changed": sum(len(each.changed) for each in found),
            "unsorted": sum(report.is_unsorted for report in self.pixels),
            "schema": sum(bool(report.schema) for report in self.pixels),
            "unreadable": sum(bool(report.error) for report in self.pixels),
            "metadata": len(self.metadata),
        }

    @property
    def undecided(self) -> int:
        """How many rows are too near to the threshold to be judged."""
        return sum(report.judgement.undecided for report in self.pixels)

    @property
    def missing_beside(self) -> int:
        """How many of the missing rows are those of pixels outside the primary's partitions."""
        beside = [report for report in self.pixels if not report.is_partition]
        return sum(len(report.judgement.missing) for report in beside)

    @property
    def faulty_share(self) -> float:
        """The most that the share of faulty pixels is, with 95 % confidence, by a clean sample.

        That is the rule of three: were the share larger than 3 / n, a sample of n would have been
        clean with a probability of less than exp(-3), 5 % (Hanley and Lippman-Hand 1983, JAMA 249,
        1743). If all pixels were looked at, it is 0.
        """
        if len(self.pixels) == self.candidates:
            return 0.0
        return min(1.0, 3 / max(1, len(self.pixels)))


def save_findings(findings: Findings, path: Path) -> None:
    """Write what is found in a piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write_text(json.dumps(asdict(findings)), encoding="utf-8")


def load_findings(paths: Iterable[Path]) -> Findings:
    """Read what is found in pieces, as if they were one.

    Raises:
        MarginCacheError: A file is missing or damaged.
    """
    candidates, pixels = 0, []
    for path in paths:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            pixels += [_pixel_report(**each) for each in values["pixels"]]
            candidates += values["candidates"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise MarginCacheError(
                f"{path}: cannot be read ({error}); delete it, and start the audit again"
            ) from None
    return Findings(candidates, pixels)


def _pixel_report(pixel: list[int], judgement: dict[str, Any], **values: Any) -> PixelReport:
    order, number = pixel
    false = [(index, beyond) for index, beyond in judgement.pop("false")]
    return PixelReport((order, number), judgement=Judgement(false=false, **judgement), **values)
