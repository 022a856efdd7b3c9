"""The results of an audit: of a pixel, of a range of the sky, and of the whole margin.

`audit.json` and its map, and the verdict as the terminal and reports tell it.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from margin_cache import __version__
from margin_cache.audit.request import (
    AUDIT_JSON,
    AUDIT_MAP,
    AuditRequest,
    Options,
    Pixel,
    read_dataclass,
    remove_results,
    request_id,
    sort_nested,
    state_of,
)
from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import atomic_path, read_json, write_json, write_text
from margin_cache.storage.urls import absolute_location, is_url

CLEAN, SAFE, UNSAFE = "clean", "safe", "unsafe"

_PACKAGES = ["hats", "hipscat", "healpy", "numpy", "pandas", "pyarrow"]
_MAX_EXAMPLES = 3  # lines about metadata, or about files, on the terminal


class Kind(NamedTuple):
    """A kind of defect: whether a crossmatch can be wrong by it, and what is counted."""

    is_unsafe: bool
    meaning: str


KINDS = {
    "missing": Kind(True, "rows within the threshold that the margin lacks"),
    "changed": Kind(True, "rows whose values differ from the catalog"),
    "foreign": Kind(True, "rows that the catalog does not have"),
    "duplicate": Kind(True, "rows that are there more often than in the catalog"),
    "unreadable": Kind(True, "files that are missing or damaged"),
    "columns": Kind(True, "files whose columns differ from the catalog"),
    "beyond": Kind(False, "rows beyond the threshold: the margin is larger than needed"),
    "unsorted": Kind(False, "files that are not sorted by the spatial index"),
    "metadata": Kind(False, "lines about the metadata: see below"),
}

ROW_KINDS = ("missing", "changed", "foreign", "duplicate", "beyond")
"""Kinds of defects of rows, as `RowDefects` names them; the others are of files or metadata."""


@dataclass(frozen=True)
class RowDefects:
    """The spatial indexes of the wrong rows of one pixel, by the kinds of `KINDS`.

    Several rows may share an index. A row whose index or position was changed is missing, and
    foreign. Rows of the pixel's own partition, which has them already, are duplicates. Rows beyond
    the threshold have their distance beyond it, in arcsec; in a coarse margin, they are also beyond
    its cells. ``undecided`` is the number of rows that are nearer to the threshold than the error
    of their distance: the margin may contain them or not.
    """

    missing: list[int]
    changed: list[int]
    foreign: list[int]
    duplicate: list[int]
    beyond: list[tuple[int, float]]
    undecided: int = 0


@dataclass(frozen=True)
class PixelFindings:
    """Findings in a pixel.

    Attributes:
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
    def numbers(self) -> Mapping[str, int]:
        """The number of wrong rows of each kind; 1 for a defect of the file."""
        return {
            **{kind: len(getattr(self.row_defects, kind)) for kind in ROW_KINDS},
            "unreadable": bool(self.error),
            "columns": bool(self.schema),
            "unsorted": self.is_unsorted,
        }


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
    parts = [read_dataclass(RangeFindings, path) for path in paths]
    pixels = [pixel for part in parts for pixel in part.pixels]
    return RangeFindings(sum(part.candidates for part in parts), pixels)


class Count(NamedTuple):
    """How many rows have a defect, None if rows are not counted; and how many pixels."""

    rows: int | None
    pixels: int


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
    """Write a sky map of defects and, last, `audit.json`; return the content of the latter."""
    remove_results(directory)
    if report.verdict != CLEAN:
        with atomic_path(directory / AUDIT_MAP) as path:
            path.write_bytes(draw_map(report, absolute_location(request.margin).rpartition("/")[2]))
    primary_state, margin_state = request.states
    pixels, is_doubtful = report.pixels, report.has_unchecked_contradictions
    errors = [findings.error for findings in pixels if findings.error]
    content = {
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
        "undecided": sum(findings.row_defects.undecided for findings in pixels),
        "missing_outside_partitions": report.missing_outside,
        "metadata": report.metadata,
        "unreadable": [*errors, *report.unreadable],
        "faulty_pixels": [
            _defects(findings) for findings in pixels if any(findings.numbers.values())
        ],
    }
    write_json(directory / AUDIT_JSON, content)
    return content


def _defects(findings: PixelFindings) -> dict[str, Any]:
    order, number = findings.pixel
    rows = {kind: getattr(findings.row_defects, kind) for kind in ROW_KINDS}
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
    # Slow to import, and not needed for a clean margin.
    from matplotlib.patches import Patch

    from margin_cache import figures

    results = {findings.pixel: findings.numbers for findings in report.pixels}
    pixels = sort_nested(results)
    orders, numbers = np.transpose(np.array(pixels, np.int64))
    figure, panels = figures.new_figure(figures.MAP_HEIGHT + 0.6, 2)
    for axes, is_unsafe, title in zip(panels, (True, False), ("unsafe", "harmless"), strict=True):
        kinds = [
            kind for kind in KINDS if kind != "metadata" and KINDS[kind].is_unsafe == is_unsafe
        ]
        counts = np.array([sum(results[pixel][kind] for kind in kinds) for pixel in pixels], float)
        mapping = figures.draw_faults(axes, orders, numbers, counts)
        if counts.any():
            figures.colour_bar(figure, mapping, [axes], "defects")
        found = [f"{report.counts[kind]} {kind}" for kind in kinds if report.counts[kind]]
        axes.set_title(f"{title}: {', '.join(found) or 'nothing'}")
    checked = f"{len(report.pixels)} of {report.candidates} pixels checked"
    figure.suptitle(f"{name}, {report.threshold:g} arcsec: {report.verdict}; {checked}")
    patches = [
        Patch(color=figures.FAULTLESS, label="checked, nothing found"),
        Patch(color=figures.NO_DATA, label="not checked, or far from the catalog"),
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False)
    return figures.render(figure)


def read_audit(results: Path) -> Mapping[str, Any] | None:
    """Read the results of an audit; None if there are none, or of another version."""
    content = read_json(results / AUDIT_JSON)
    names = {"verdict", "request", "kinds", "margin", "catalog", "claimed_threshold"}
    return content if isinstance(content, dict) and names <= content.keys() else None


def read_audit_of(
    results: Path, margin: str, primary: str, options: Options = None
) -> Mapping[str, Any] | None:
    """Read the results of an audit of a margin; None if the margin has changed since.

    ``primary`` is the catalog that it must have been compared with, and ``options`` are those of
    the margin's store.
    """
    audit = read_audit(results)
    paths = absolute_location(margin), absolute_location(primary)
    if audit is None or (audit["margin"].get("path"), audit["catalog"].get("path")) != paths:
        return None
    try:
        return audit if audit["margin"].get("state") == state_of(margin, options) else None
    except MarginCacheError:
        return None  # the margin cannot be read, or is not there


def is_passed(audit: Mapping[str, Any], is_strict: bool) -> bool:
    """Return whether a margin is safe or, if the audit is strict, clean."""
    return audit["verdict"] in ([CLEAN] if is_strict else [CLEAN, SAFE])


def describe(audit: Mapping[str, Any], results: Path) -> str:
    margin = _as_seen_from_here(audit["margin"]["path"])
    lines = [*_table(audit), *explain(audit), f"details: {results / AUDIT_JSON}"]
    return "\n".join([f"audit: {headline(audit, margin)}", *map("  ".__add__, lines)])


def headline(audit: Mapping[str, Any], margin: str) -> str:
    verdict = {
        CLEAN: f"{margin} is clean",
        SAFE: f"{margin} is safe, with warnings",
        UNSAFE: f"{margin} is UNSAFE: a crossmatch with it can be wrong",
    }[audit["verdict"]]
    if audit["only_partitions"] is not None:
        verdict += f", for the {audit['only_partitions']} partitions that were chosen"
    claimed = audit["claimed_threshold"]
    if claimed and audit["verdict"] != UNSAFE:
        verdict += f", within {audit['threshold']:g} arcsec only: it claims {claimed:g} arcsec"
    is_sample = audit["pixels"]["checked"] < audit["pixels"]["all"]
    doubt = ", as far as a sample can tell" if is_sample and audit["verdict"] != UNSAFE else ""
    return verdict + doubt


def explain(audit: Mapping[str, Any]) -> list[str]:
    """Return lines about what was checked, and what the verdict does not say."""
    pixels, sample, order = audit["pixels"], audit["sample"], audit["cell_order"]
    kind = "" if order is None else f" (coarse margin, cells of order {order})"
    lines = [f"threshold: {audit['threshold']:g} arcsec{kind}"]
    if pixels["checked"] == pixels["all"]:
        lines.append(f"checked: all {pixels['all']} pixels that can have margin rows")
    else:
        lines.append(
            f"checked: a sample of {pixels['checked']} of {pixels['all']} pixels (seed "
            f"{sample['seed']})"
        )
    if audit["kinds"]["metadata"]["unsafe"]:
        lines.append(
            "the metadata contradict the files: rows may be missing outside of the sample. Audit "
            "all pixels"
        )
    if sample["unsafe_share_below"]:
        share = f"{100 * sample['unsafe_share_below']:.2g} %"
        lines.append(
            f"with 95 % confidence, less than {share} of the pixels are unsafe (rule of three)"
        )
    if audit["missing_outside_partitions"]:
        lines.append(
            "missing in pixels outside the partitions of the catalog: "
            f"{audit['missing_outside_partitions']} rows"
        )
    if audit["undecided"]:
        lines.append(f"{audit['undecided']} rows are too near to the threshold to be judged")
    return lines + _examples("metadata", audit["metadata"]) + _examples("file", audit["unreadable"])


def _table(audit: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, count in audit["kinds"].items():
        if count["pixels"]:
            rows = "-" if count["rows"] is None else count["rows"]
            lines.append(f"{kind:10} {rows:>9} {count['pixels']:>7}  {KINDS[kind].meaning}")
    return [f"{'kind':10} {'rows':>9} {'pixels':>7}", *lines] if lines else []


def _examples(word: str, lines: list[str]) -> list[str]:
    more = len(lines) - _MAX_EXAMPLES
    shown = [f"{word}: {line}" for line in lines[:_MAX_EXAMPLES]]
    return [*shown, f"{word}: {more} more in {AUDIT_JSON}"] if more > 0 else shown


def _as_seen_from_here(path: str) -> str:
    if is_url(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
