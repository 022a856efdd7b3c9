"""The files that an audit writes."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from margin_cache import __version__
from margin_cache.audit.findings import AuditReport, PixelFindings
from margin_cache.audit.pixels import sort_nested
from margin_cache.audit.request import AuditRequest, remove_results, request_id
from margin_cache.audit.verdict import AUDIT_JSON, AUDIT_MAP, KINDS, UNSAFE
from margin_cache.figures import (
    FAULTLESS,
    MAP_HEIGHT,
    NO_DATA,
    colour_bar,
    draw_faults,
    new_figure,
    render_png,
)
from margin_cache.storage.files import atomic_path, write_json
from margin_cache.storage.urls import absolute_location

_PACKAGES = ["hats", "hipscat", "healpy", "numpy", "pandas", "pyarrow"]


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
    errors = [findings.error for findings in report.pixels if findings.error]
    faulty = [_defects(findings) for findings in report.pixels if not findings.is_clean]
    is_doubtful = report.has_unchecked_contradictions
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
        "pixels": {"checked": len(report.pixels), "all": report.candidates},
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
        "faulty_pixels": faulty,
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
    pixels = sort_nested([findings.pixel for findings in report.pixels])
    orders, numbers = np.transpose(np.array(pixels, np.int64))
    numbers_of = {findings.pixel: findings.numbers for findings in report.pixels}
    defects = [numbers_of[pixel] for pixel in pixels]
    figure, panels = new_figure(MAP_HEIGHT + 0.6, 2)
    on_sky = [kind for kind in KINDS if kind != "metadata"]
    for axes, is_unsafe in zip(panels, (True, False), strict=True):
        kinds = [kind for kind in on_sky if KINDS[kind].is_unsafe == is_unsafe]
        counts = np.array([sum(of[kind] for kind in kinds) for of in defects], float)
        mapping = draw_faults(axes, orders, numbers, counts)
        if counts.any():
            colour_bar(figure, mapping, [axes], "defects")
        found = [f"{report.counts[kind]} {kind}" for kind in kinds if report.counts[kind]]
        title = "unsafe" if is_unsafe else "harmless"
        axes.set_title(f"{title}: {', '.join(found) or 'nothing'}")
    checked = f"{len(report.pixels)} of {report.candidates} pixels checked"
    figure.suptitle(f"{name}, {report.threshold:g} arcsec: {report.verdict}; {checked}")
    colours = {"checked, nothing found": FAULTLESS, "not checked, or far from the catalog": NO_DATA}
    patches = [Patch(color=colour, label=label) for label, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False)
    return render_png(figure)
