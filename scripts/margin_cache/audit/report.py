"""The audit of a whole margin, pixel by pixel, and the files that say what it has found."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from margin_cache.audit.catalogs import AuditedCatalog, Pixel, open_catalog, pixels_around
from margin_cache.audit.judgement import Judgement, judge_pixel
from margin_cache.errors import MarginCacheError

COLUMNS = ("order", "pixel", "rows", "missing", "false", "double", "changed", "unsorted", "error")


@dataclass(frozen=True)
class PixelReport:
    """What the audit has found in a pixel; `error` is empty unless its file cannot be read."""

    pixel: Pixel
    rows: int
    judgement: Judgement
    is_unsorted: bool
    error: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong with the pixel's rows and file."""
        return self.judgement.is_clean and not self.is_unsorted and not self.error


@dataclass(frozen=True)
class MarginReport:
    """What the audit has found in a margin."""

    threshold: float
    pixels: list[PixelReport]
    metadata: list[str]

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
            "unreadable": sum(bool(report.error) for report in self.pixels),
            "metadata": len(self.metadata),
        }


def audit_margin(primary_path: Path, margin_path: Path, threshold: float | None) -> MarginReport:
    """Check a margin against its primary: the primary's pixels, and all that the margin lists.

    Args:
        primary_path: Directory of the primary.
        margin_path: Directory of the margin.
        threshold: Arcsec; None to take it from the margin's metadata.

    Raises:
        MarginCacheError: A catalog cannot be opened, the primary cannot be read, or the margin
            does not tell its threshold.
    """
    primary, margin = open_catalog(primary_path), open_catalog(margin_path)
    limit = margin.threshold if threshold is None else threshold
    if not limit:
        raise MarginCacheError(f"{margin_path}: no threshold in its metadata; give --threshold")
    pixels = sorted({*primary.files, *margin.files})
    reports = [_audit_pixel(primary, margin, pixel, limit) for pixel in pixels]
    rows = sum(report.rows for report in reports)
    metadata = []
    if margin.rows is not None and margin.rows != rows:
        metadata.append(f"total_rows is {margin.rows}, but the files have {rows} rows")
    if margin.threshold is not None and margin.threshold != limit:
        metadata.append(f"margin_threshold is {margin.threshold:g}, not {limit:g} arcsec")
    return MarginReport(limit, reports, metadata)


def write_report(report: MarginReport, directory: Path) -> None:
    """Write `audit.json`, with every faulty row, and `audit.csv`, with a line for each pixel."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "verdict": "clean" if report.is_clean else "faulty",
        "threshold": report.threshold,
        "counts": report.counts,
        "metadata": report.metadata,
        "pixels": [_faults(each) for each in report.pixels if not each.is_clean],
    }
    with _Whole(directory / "audit.json") as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with _Whole(directory / "audit.csv") as file, file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(COLUMNS)
        for each in report.pixels:
            found = each.judgement
            kinds = (found.missing, found.false, found.double, found.changed)
            numbers = [len(kind) for kind in kinds]
            writer.writerow([*each.pixel, each.rows, *numbers, int(each.is_unsorted), each.error])


def _audit_pixel(
    primary: AuditedCatalog, margin: AuditedCatalog, pixel: Pixel, threshold: float
) -> PixelReport:
    around = pixels_around(pixel, list(primary.files), threshold)
    rows = pd.concat([primary.read(each) for each in around]) if around else None
    there, error = None, ""
    if pixel in margin.files:
        try:
            there = margin.read(pixel)
        except MarginCacheError as found:
            error = str(found)
    if rows is None:
        anything = next(iter(primary.files))
        rows = primary.read(anything).iloc[:0]
    if there is None:
        there = rows.iloc[:0]
    judgement = judge_pixel(rows, there, *pixel, threshold, primary.position)
    return PixelReport(pixel, len(there), judgement, not there.index.is_monotonic_increasing, error)


def _faults(report: PixelReport) -> dict[str, Any]:
    found = report.judgement
    beyond = {
        str(key): None if math.isnan(value) else round(value, 6)
        for key, value in found.false.items()
    }
    return {
        "order": report.pixel[0],
        "pixel": report.pixel[1],
        "missing": [int(key) for key in found.missing],
        "false": beyond,
        "double": [int(key) for key in found.double],
        "changed": [int(key) for key in found.changed],
        "unsorted": report.is_unsorted,
        "error": report.error,
    }


class _Whole:
    """A file that takes its place only once it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.partial.replace(self.path)
