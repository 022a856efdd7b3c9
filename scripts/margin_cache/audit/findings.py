"""The results of an audit: of a pixel, of a range of the sky, and of the whole margin."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.patches import Patch

from margin_cache import __version__
from margin_cache.audit.compare import RowDefects
from margin_cache.audit.pixels import Pixel, sort_nested
from margin_cache.audit.request import (
    AuditRequest,
    read_dataclass,
    remove_results,
    request_id,
)
from margin_cache.audit.verdict import AUDIT_JSON, AUDIT_MAP, CLEAN, KINDS, SAFE, UNSAFE
from margin_cache.figures import (
    FAULTLESS,
    MAP_HEIGHT,
    NO_DATA,
    colour_bar,
    draw_faults,
    new_figure,
    render_png,
)
from margin_cache.storage.files import atomic_path, write_json, write_text
from margin_cache.storage.urls import absolute_location

ROW_KINDS = ("missing", "changed", "foreign", "duplicate", "beyond")
"""Kinds of defects of rows, as `RowDefects` names them; the others are of files or metadata."""

_PACKAGES = ["hats", "hipscat", "healpy", "numpy", "pandas", "pyarrow"]


@dataclass(frozen=True)
class PixelFindings:
    """Findings in a pixel.

    Attributes:
        pixel: Order and nested number.
        is_partition: Whether the primary has it; if not, it is a pixel of the sky around it.
        is_listed: Whether the margin lists it.
        rows: Number of rows of its file.
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
    """Findings in the pixels of a range of the sky that were checked: all of them, or a sample.

    ``candidates`` is the number of pixels in the range that can have rows.
    """

    candidates: int
    pixels: list[PixelFindings]


def save_findings(findings: RangeFindings, path: Path) -> None:
    write_text(path, json.dumps(asdict(findings)))


def load_findings(paths: Iterable[Path]) -> RangeFindings:
    """Read the findings in several ranges of the sky, and combine them."""
    parts = [read_dataclass(RangeFindings, path) for path in paths]
    pixels = [pixel for part in parts for pixel in part.pixels]
    return RangeFindings(sum(part.candidates for part in parts), pixels)


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
        found = [kind for kind, count in self.kinds.items() if count.pixels]
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
        outside = [findings for findings in self.pixels if not findings.is_partition]
        return sum(len(findings.row_defects.missing) for findings in outside)

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


def write_audit(report: AuditReport, request: AuditRequest, directory: Path) -> dict[str, Any]:
    """Write a sky map and, last, `audit.json`; return the content of the latter."""
    remove_results(directory)
    with atomic_path(directory / AUDIT_MAP) as path:
        path.write_bytes(draw_map(report, absolute_location(request.margin).rpartition("/")[2]))
    content = _content(report, request)
    write_json(directory / AUDIT_JSON, content)
    return content


def _content(report: AuditReport, request: AuditRequest) -> dict[str, Any]:
    primary_state, margin_state = request.states
    pixels, is_doubtful = report.pixels, report.has_unchecked_contradictions
    errors = [findings.error for findings in pixels if findings.error]
    return {
        "verdict": report.verdict,
        "margin": {"path": absolute_location(request.margin), "state": margin_state},
        "catalog": {"path": absolute_location(request.primary), "state": primary_state},
        "threshold": report.threshold,
        "claimed_threshold": report.claimed_threshold,
        "cell_order": report.cell_order,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"margin_cache": __version__, **{name: version(name) for name in _PACKAGES}},
        "request": request_id(request),
        "only_partitions": report.only_partitions,
        "pixels": {"checked": len(pixels), "all": report.candidates},
        "sample": {
            "fraction": request.fraction,
            "seed": request.seed,
            "unsafe_share_below": None if report.verdict == UNSAFE else report.max_unsafe_share,
        },
        "kinds": {
            kind: {
                **count._asdict(),
                "unsafe": KINDS[kind].is_unsafe or (kind == "metadata" and is_doubtful),
            }
            for kind, count in report.kinds.items()
        },
        "undecided": report.undecided,
        "missing_outside_partitions": report.missing_outside,
        "metadata": report.metadata,
        "unreadable": [*errors, *report.unreadable],
        "faulty_pixels": [_defects(findings) for findings in pixels if not findings.is_clean],
    }


def _defects(findings: PixelFindings) -> dict[str, Any]:
    order, number = findings.pixel
    rows = findings.rows_by_kind
    return {
        "order": order,
        "pixel": number,
        **rows,
        "beyond": [{"index": index, "arcsec": round(far, 6)} for index, far in rows["beyond"]],
        "unsorted": findings.is_unsorted,
        "columns": findings.schema,
        "error": findings.error,
    }


def draw_map(report: AuditReport, name: str) -> bytes:
    """Draw a PNG of where unsafe and other defects are, in equatorial coordinates."""
    results = {findings.pixel: findings.numbers for findings in report.pixels}
    pixels = sort_nested(results)
    orders, numbers = np.transpose(np.array(pixels, np.int64))
    figure, panels = new_figure(MAP_HEIGHT + 0.6, 2)
    for axes, is_unsafe, title in zip(panels, (True, False), ("unsafe", "harmless"), strict=True):
        kinds = [
            kind for kind in KINDS if kind != "metadata" and KINDS[kind].is_unsafe == is_unsafe
        ]
        counts = np.array([sum(results[pixel][kind] for kind in kinds) for pixel in pixels], float)
        mapping = draw_faults(axes, orders, numbers, counts)
        if counts.any():
            colour_bar(figure, mapping, [axes], "defects")
        found = [f"{report.counts[kind]} {kind}" for kind in kinds if report.counts[kind]]
        axes.set_title(f"{title}: {', '.join(found) or 'nothing'}")
    checked = f"{len(report.pixels)} of {report.candidates} pixels checked"
    figure.suptitle(f"{name}, {report.threshold:g} arcsec: {report.verdict}; {checked}")
    colours = {"checked, nothing found": FAULTLESS, "not checked, or far from the catalog": NO_DATA}
    patches = [Patch(color=colour, label=label) for label, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False)
    return render_png(figure)
