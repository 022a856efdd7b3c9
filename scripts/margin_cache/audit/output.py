"""The files that say what an audit has found."""

import csv
import json
import math
from pathlib import Path
from typing import Any

from margin_cache.audit.findings import MarginReport, PixelReport
from margin_cache.audit.sky_maps import draw_sky_map
from margin_cache.audit.whole_files import whole_file

COLUMNS = (
    "order",
    "pixel",
    "is_partition",
    "is_listed",
    "rows",
    "missing",
    "false",
    "double",
    "changed",
    "undecided",
    "unsorted",
    "schema",
    "error",
)


def write_report(report: MarginReport, directory: Path) -> None:
    """Write `audit.csv`, the sky maps, and, last of all, `audit.json` with every faulty row."""
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(directory / "audit.csv") as file, file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(COLUMNS)
        writer.writerows(_line(each) for each in report.pixels)
    for kind in ("missing", "false"):
        rows = {each.pixel: len(getattr(each.judgement, kind)) for each in report.pixels}
        with whole_file(directory / f"{kind}.png") as file:
            draw_sky_map(rows, f"{kind} rows of each pixel", file)
    content = {
        "verdict": "clean" if report.is_clean else "faulty",
        "threshold": report.threshold,
        "cell_order": report.cell_order,
        "counts": report.counts,
        "undecided": report.undecided,
        "missing_beside_partitions": report.missing_beside,
        "sample": {
            "fraction": report.fraction,
            "seed": report.seed,
            "pixels": len(report.pixels),
            "of": report.candidates,
            "faulty_share_below": report.faulty_share if report.is_clean else None,
        },
        "metadata": report.metadata,
        "pixels": [_faults(each) for each in report.pixels if not each.is_clean],
    }
    with whole_file(directory / "audit.json") as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def summary(report: MarginReport) -> str:
    """Return the line that is said of a margin."""
    found = ", ".join(f"{number} {kind}" for kind, number in report.counts.items() if number)
    parts = [found or "nothing wrong"]
    if report.fraction < 1:
        parts.append(
            f"in a sample of {len(report.pixels)} of {report.candidates} pixels, by seed "
            f"{report.seed}"
        )
    if report.faulty_share and report.is_clean:
        parts.append(
            f"with 95 % confidence less than {report.faulty_share:.2g} of the pixels are faulty, "
            "by the rule of three"
        )
    if report.missing_beside:
        parts.append(f"{report.missing_beside} of the missing are beside the partitions")
    if report.undecided:
        parts.append(f"{report.undecided} rows too near to the threshold to be judged")
    return "; ".join(parts)


def _line(report: PixelReport) -> list[Any]:
    found = report.judgement
    kinds = (found.missing, found.false, found.double, found.changed)
    return [
        *report.pixel,
        int(report.is_partition),
        int(report.is_listed),
        report.rows,
        *(len(kind) for kind in kinds),
        found.undecided,
        int(report.is_unsorted),
        "; ".join(report.schema),
        report.error,
    ]


def _faults(report: PixelReport) -> dict[str, Any]:
    found = report.judgement
    return {
        "order": report.pixel[0],
        "pixel": report.pixel[1],
        "missing": found.missing,
        "false": [
            {"index": index, "beyond": None if math.isnan(beyond) else round(beyond, 6)}
            for index, beyond in found.false
        ],
        "double": found.double,
        "changed": found.changed,
        "unsorted": report.is_unsorted,
        "schema": report.schema,
        "error": report.error,
    }
