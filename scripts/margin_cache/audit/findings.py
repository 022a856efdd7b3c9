"""The results of an audit: of a pixel, of a range of the sky, and of the whole margin."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from margin_cache.audit.compare import RowDefects
from margin_cache.audit.pixels import Pixel
from margin_cache.audit.request import read_dataclass
from margin_cache.audit.verdict import CLEAN, KINDS, SAFE, UNSAFE
from margin_cache.storage.files import write_text

ROW_KINDS = ("missing", "changed", "foreign", "duplicate", "beyond")
"""Kinds of defects of rows, as `RowDefects` names them; the others are of files or metadata."""


@dataclass(frozen=True)
class PixelFindings:
    """Findings in a pixel.

    Attributes:
        pixel: Order and nested number.
        is_partition: Whether the primary has it; if not, it is a pixel of the sky around it.
        is_listed: Whether the margin lists it.
        rows: Number of rows of its file.
        row_defects: Its wrong rows.
        is_unsorted: Whether the rows are not sorted by the spatial index.
        schema: A line for each wrong column.
        error: Why its file cannot be read; empty if it can.
    """

    pixel: Pixel
    is_partition: bool
    is_listed: bool
    rows: int
    row_defects: RowDefects
    is_unsorted: bool
    schema: list[str]
    error: str = ""

    @property
    def is_clean(self) -> bool:
        return self.row_defects.is_clean and not (self.is_unsorted or self.schema or self.error)

    @property
    def rows_by_kind(self) -> Mapping[str, Sequence[Any]]:
        """The wrong rows: their spatial indexes; and how far they are beyond the threshold."""
        return {kind: getattr(self.row_defects, kind) for kind in ROW_KINDS}

    @property
    def numbers(self) -> Mapping[str, int]:
        """The number of wrong rows of each kind; 1 for a defect of the file."""
        return {
            **{kind: len(rows) for kind, rows in self.rows_by_kind.items()},
            "unreadable": bool(self.error),
            "columns": bool(self.schema),
            "unsorted": self.is_unsorted,
        }


class Count(NamedTuple):
    """How many rows have a defect, None if rows are not counted; and how many pixels."""

    rows: int | None
    pixels: int


@dataclass(frozen=True)
class RangeFindings:
    """Findings in a range of the sky.

    Attributes:
        candidates: Number of pixels in the range that can have rows.
        pixels: Findings in those that were checked: in all of them, or in a sample.
    """

    candidates: int
    pixels: list[PixelFindings]


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        threshold: Arcsec.
        cell_order: Order of the cells of a coarse margin; None for an exact margin.
        pixels: Findings in the pixels that were checked.
        metadata: A line for each error in the metadata.
        candidates: Number of pixels that can have rows.
        unreadable: A line for each file outside of the sample that cannot be read.
        contradictions: Number of lines of `metadata` about pixels or numbers of rows.
        claimed_threshold: Arcsec in the metadata of the margin, if they are more than `threshold`.
        only_partitions: Number of partitions that the comparison was restricted to; None: all.
    """

    threshold: float
    cell_order: int | None
    pixels: list[PixelFindings]
    metadata: list[str]
    candidates: int
    unreadable: Sequence[str] = ()
    contradictions: int = 0
    claimed_threshold: float | None = None
    only_partitions: int | None = None

    @property
    def verdict(self) -> str:
        found = [kind for kind, number in self.counts.items() if number]
        if any(KINDS[kind].is_unsafe for kind in found) or self.has_unchecked_contradictions:
            return UNSAFE
        return SAFE if found else CLEAN

    @property
    def has_unchecked_contradictions(self) -> bool:
        """Whether metadata and files differ, and rows may be missing outside of the sample."""
        return bool(self.contradictions) and len(self.pixels) < self.candidates

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows with each kind of defect; of pixels if rows are not counted."""
        return {
            kind: count.pixels if count.rows is None else count.rows
            for kind, count in self.kinds.items()
        }

    @cached_property
    def kinds(self) -> dict[str, Count]:
        """The number of rows and pixels with each kind of defect; of lines about metadata."""
        kinds = {}
        numbers = [findings.numbers for findings in self.pixels]
        others = {"unreadable": len(self.unreadable), "metadata": len(self.metadata)}
        for kind in KINDS:
            found = [of.get(kind, 0) for of in numbers]
            pixels = sum(map(bool, found)) + others.get(kind, 0)
            kinds[kind] = Count(sum(found) if kind in ROW_KINDS else None, pixels)
        return kinds

    @property
    def undecided(self) -> int:
        """The number of rows too near to the threshold to be judged."""
        return sum(findings.row_defects.undecided for findings in self.pixels)

    @property
    def missing_outside(self) -> int:
        """The number of missing rows of pixels that are not partitions of the primary."""
        return sum(
            len(findings.row_defects.missing)
            for findings in self.pixels
            if not findings.is_partition
        )

    @property
    def max_unsafe_share(self) -> float:
        """The upper limit of the share of unsafe pixels, with 95 % confidence, by a safe sample.

        This is the rule of three: if the share were larger than 3 / n, a sample of n would be safe
        with a probability of less than exp(-3), 5 % (Hanley and Lippman-Hand 1983, JAMA 249, 1743).
        If all pixels were checked, it is 0.
        """
        if len(self.pixels) == self.candidates:
            return 0.0
        return min(1.0, 3 / max(1, len(self.pixels)))


def save_findings(findings: RangeFindings, path: Path) -> None:
    write_text(path, json.dumps(asdict(findings)))


def load_findings(paths: Iterable[Path]) -> RangeFindings:
    """Read the findings in several ranges of the sky, and combine them."""
    parts = [read_dataclass(RangeFindings, path) for path in paths]
    pixels = [pixel for part in parts for pixel in part.pixels]
    return RangeFindings(sum(part.candidates for part in parts), pixels)
