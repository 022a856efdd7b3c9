"""The files that an audit writes, and its summary in one line."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import numpy.typing as npt

from margin_cache.audit.findings import AuditReport, PixelFindings
from margin_cache.audit.pixels import Pixel
from margin_cache.storage.files import atomic_path, write_json

MAP_ORDER = 7  # of the sky maps; rows of smaller pixels are added up, as a point shows more sky


def write_audit(report: AuditReport, directory: Path) -> None:
    """Write `audit.csv`, the sky maps and, last, `audit.json`, which names all wrong rows."""
    lines = [_csv_line(findings) for findings in report.pixels]
    with atomic_path(directory / "audit.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    for kind in ("missing", "beyond"):
        rows = {(line["order"], line["pixel"]): line[kind] for line in lines}
        with atomic_path(directory / f"{kind}.png") as path:
            draw_sky_map(rows, f"{kind} rows of each pixel", path)
    content = {
        "verdict": "clean" if report.is_clean else "faulty",
        "threshold": report.threshold,
        "cell_order": report.cell_order,
        "counts": report.counts,
        "undecided": report.undecided,
        "missing_outside_partitions": report.missing_outside,
        "sample": {
            "fraction": report.fraction,
            "seed": report.seed,
            "pixels": len(report.pixels),
            "of": report.candidates,
            "faulty_share_below": report.max_faulty_share if report.is_clean else None,
        },
        "metadata": report.metadata,
        "pixels": [_defects(findings) for findings in report.pixels if not findings.is_clean],
    }
    write_json(directory / "audit.json", content)


def summary(report: AuditReport) -> str:
    """Return the result of an audit in one line."""
    defects = ", ".join(f"{number} {kind}" for kind, number in report.counts.items() if number)
    parts = [defects or "nothing wrong"]
    if report.fraction < 1:
        parts.append(
            f"in a sample of {len(report.pixels)} of {report.candidates} pixels (seed "
            f"{report.seed})"
        )
    if report.max_faulty_share and report.is_clean:
        parts.append(
            f"with 95 % confidence, less than {report.max_faulty_share:.2g} of the pixels are "
            "faulty (rule of three)"
        )
    if report.missing_outside:
        parts.append(
            f"{report.missing_outside} of the missing rows belong to pixels outside the partitions"
        )
    if report.undecided:
        parts.append(f"{report.undecided} rows are too near to the threshold to be judged")
    return "; ".join(parts)


def _csv_line(findings: PixelFindings) -> dict[str, Any]:
    order, number = findings.pixel
    rows = findings.row_defects
    return {
        "order": order,
        "pixel": number,
        "is_partition": int(findings.is_partition),
        "is_listed": int(findings.is_listed),
        "rows": findings.rows,
        "missing": len(rows.missing),
        "changed": len(rows.changed),
        "foreign": len(rows.foreign),
        "duplicate": len(rows.duplicate),
        "beyond": len(rows.beyond),
        "undecided": rows.undecided,
        "unsorted": int(findings.is_unsorted),
        "schema": "; ".join(findings.schema),
        "error": findings.error,
    }


def _defects(findings: PixelFindings) -> dict[str, Any]:
    order, number = findings.pixel
    rows = findings.row_defects
    return {
        "order": order,
        "pixel": number,
        "missing": rows.missing,
        "changed": rows.changed,
        "foreign": rows.foreign,
        "duplicate": rows.duplicate,
        "beyond": [{"index": index, "beyond": round(arcsec, 6)} for index, arcsec in rows.beyond],
        "unsorted": findings.is_unsorted,
        "schema": findings.schema,
        "error": findings.error,
    }


def sky_map(rows: Mapping[Pixel, int]) -> npt.NDArray[np.float64]:
    """Return a nested healpy map of the numbers of rows of pixels; NaN where there is no pixel."""
    order = min(MAP_ORDER, max((order for order, _ in rows), default=0))
    values = np.full(12 << 2 * order, np.nan)
    for (pixel_order, number), count in rows.items():
        first = number << 2 * order >> 2 * pixel_order
        end = (number + 1) << 2 * order >> 2 * pixel_order if pixel_order <= order else first + 1
        values[first:end] = np.nan_to_num(values[first:end]) + count
    return values


def draw_sky_map(rows: Mapping[Pixel, int], title: str, path: Path) -> None:
    """Draw the numbers of rows of pixels on the whole sky, in equatorial coordinates, as PNG."""
    import matplotlib  # slow, and not every user of this module draws

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    values = sky_map(rows)
    figure = plt.figure(figsize=(9, 5.5))
    most = max(1.0, float(np.nanmax(values, initial=0)))
    healpy.mollview(
        values, fig=figure, nest=True, title=title, unit="rows", min=0, max=most, cmap="cividis"
    )
    healpy.graticule(color="grey")
    plt.savefig(path, dpi=150, format="png")
    plt.close(figure)
