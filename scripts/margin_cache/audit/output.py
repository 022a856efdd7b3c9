"""The files that an audit writes."""

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import numpy.typing as npt

from margin_cache import __version__
from margin_cache.audit.findings import AuditReport, PixelFindings
from margin_cache.audit.pixels import Pixel
from margin_cache.audit.request import AuditRequest, request_id
from margin_cache.audit.verdict import AUDIT_JSON, KINDS, UNSAFE
from margin_cache.storage.files import atomic_path, write_json

_PACKAGES = ["hats", "hipscat", "healpy", "numpy", "pandas", "pyarrow"]

MAP_ORDER = 7  # of the sky maps; rows of smaller pixels are added up, as a point shows more sky


def write_audit(report: AuditReport, request: AuditRequest, directory: Path) -> dict[str, Any]:
    """Write `audit.csv`, the sky maps and, last, `audit.json`; return the content of the last."""
    (directory / AUDIT_JSON).unlink(missing_ok=True)
    lines = [_csv_line(findings) for findings in report.pixels]
    with atomic_path(directory / "audit.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    for kind in ("missing", "beyond"):
        rows = {(line["order"], line["pixel"]): line[kind] for line in lines}
        with atomic_path(directory / f"{kind}.png") as path:
            draw_sky_map(rows, f"{kind} rows of each pixel", path)
    content = _content(report, request)
    write_json(directory / AUDIT_JSON, content)
    return content


def _content(report: AuditReport, request: AuditRequest) -> dict[str, Any]:
    primary_state, margin_state = request.states
    errors = [findings.error for findings in report.pixels if findings.error]
    faulty = [_defects(findings) for findings in report.pixels if not findings.is_clean]
    is_doubtful = report.has_unchecked_contradictions
    return {
        "verdict": report.verdict,
        "margin": {"path": str(Path(request.margin).resolve()), "state": margin_state},
        "catalog": {"path": str(Path(request.primary).resolve()), "state": primary_state},
        "threshold": report.threshold,
        "cell_order": report.cell_order,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"margin_cache": __version__, **{name: version(name) for name in _PACKAGES}},
        "request": request_id(request),
        "pixels": {"checked": len(report.pixels), "all": report.candidates},
        "sample": {
            "fraction": report.fraction,
            "seed": report.seed,
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
        "faulty_pixels": faulty,
    }


def _csv_line(findings: PixelFindings) -> dict[str, Any]:
    order, number = findings.pixel
    return {
        "order": order,
        "pixel": number,
        "is_partition": int(findings.is_partition),
        "is_listed": int(findings.is_listed),
        "rows": findings.rows,
        **{kind: len(rows) for kind, rows in findings.rows_by_kind.items()},
        "undecided": findings.row_defects.undecided,
        "unsorted": int(findings.is_unsorted),
        "columns": "; ".join(findings.schema),
        "error": findings.error,
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
