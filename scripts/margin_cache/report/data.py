"""The data that a report shows."""

import csv
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from margin_cache.audit.findings import read_audit_of
from margin_cache.catalog.partitions import partition_files
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints, Pixel
from margin_cache.margin.existing import listing, read_provenance
from margin_cache.margin.model import Margin, settings_as_json
from margin_cache.margin.paths import PROVENANCE, PlanFiles
from margin_cache.notification import open_command

_READERS = 16  # threads

_RULES = {
    "Mapping": "map_partitions",
    "Reducing": "reduce_margins",
    "Finishing": "finish_margin",
}


@dataclass(frozen=True)
class ReportData:
    """The data of a report. Arrays have one value for each pixel for which the plan has a margin.

    Attributes:
        threshold: Arcsec.
        orders, pixels: Orders and nested numbers of the pixels, which tile the sky.
        is_negative: Whether a pixel is outside the catalog.
        primary_rows: Rows of the partition; 0 for negative pixels.
        margin_bytes: Size of the margin's file; 0 without a file.
        cell_order: Order of the cells of a coarse margin; None for an exact one.
        date: Day on which the margin was made.
        changed: Parameters of the margin that differ from their defaults, by their keys.
        defaults: The other parameters.
        audit: Content of `audit.json` in `audit_dir`; None without an audit of the present margin.
    """

    name: str
    threshold: float
    orders: Ints
    pixels: Ints
    is_negative: NDArray[np.bool_]
    primary_rows: Ints
    margin_rows: Ints
    margin_bytes: Ints
    cell_order: int | None
    date: str
    open_command: str
    changed: Mapping[str, Any]
    defaults: Mapping[str, Any]
    versions: Mapping[str, str]
    audit: Mapping[str, Any] | None
    audit_dir: Path


@dataclass(frozen=True)
class StageCosts:
    """What the jobs of a stage took together, and the memory of the largest one, if it is known."""

    stage: str
    jobs: int
    seconds: float
    cpu_seconds: float
    memory_mb: float | None


def read_report_data(margin: Margin) -> ReportData:
    plan, output = margin.plan, margin.output
    provenance = read_provenance(output)
    if provenance is None:
        raise MarginCacheError(
            f"{margin.files.location}: not a finished margin. Make it before its report."
        )
    listed = provenance["files"]
    names = [plan.margin_path(number) for number in range(len(plan.destination_orders))]
    partition_of_pixel = plan.destination_partitions
    is_negative = partition_of_pixel < 0
    info = plan.parameters.catalog

    def rows_of_partition(pixel: Pixel) -> int:
        files = partition_files(info, pixel)
        return sum(info.files.open_parquet(file).metadata.num_rows for file in files)

    def rows_of_margin(name: str) -> int:
        return output.open_parquet(name).metadata.num_rows if name in listed else 0

    with ThreadPoolExecutor(_READERS) as threads:
        pixels = [pixel for pixel, _ in plan.partitions]
        partition_rows = np.array(list(threads.map(rows_of_partition, pixels)), dtype=np.int64)
        margin_rows = np.array(list(threads.map(rows_of_margin, names)), dtype=np.int64)
    defaults = {**settings_as_json(MarginSettings()), "output_artifact_name": margin.name}
    parameters = {key: provenance[key] for key in defaults if key in provenance}
    return ReportData(
        name=margin.name,
        threshold=plan.parameters.threshold,
        cell_order=None if plan.parameters.fine_filtering else plan.parameters.margin_order,
        date=output.read_json(PROVENANCE)["generation_date"].replace(".", "-"),
        open_command=open_command(margin, listing(margin)["collection"]),
        orders=plan.destination_orders,
        pixels=plan.destination_pixels,
        is_negative=is_negative,
        primary_rows=np.where(is_negative, 0, partition_rows[partition_of_pixel]),
        margin_rows=margin_rows,
        margin_bytes=np.array([listed[n][0] if n in listed else 0 for n in names], dtype=np.int64),
        changed={key: value for key, value in parameters.items() if value != defaults[key]},
        defaults={key: value for key, value in parameters.items() if value == defaults[key]},
        versions=provenance.get("packages", {}),
        audit=read_audit_of_margin(margin),
        audit_dir=margin.files.audit_file.parent,
    )


def read_audit_of_margin(margin: Margin) -> Mapping[str, Any] | None:
    """Read the audit of a margin in its present state; None if there was none."""
    files = margin.files
    options = margin.output_options() if files.url else None
    primary = margin.plan.parameters.catalog.path
    return read_audit_of(files.audit_file.parent, files.location, primary, options)


def read_costs(files: PlanFiles) -> list[StageCosts]:
    """Return the costs of the stages, from Snakemake's benchmark files that still exist."""
    costs = []
    for stage, rule in _RULES.items():
        paths = files.plan_dir.glob(f"benchmarks/{rule}/*.tsv")
        jobs = [job for job in map(_read_benchmark, paths) if job]
        if jobs:
            seconds, cpu_seconds, memory = np.transpose(jobs)
            known = memory[np.isfinite(memory)]
            largest = float(known.max()) if len(known) else None
            costs.append(
                StageCosts(stage, len(jobs), seconds.sum(), np.nansum(cpu_seconds), largest)
            )
    return costs


def _read_benchmark(path: Path) -> list[float] | None:
    """Return seconds, CPU seconds and MB of a job, NaN if it ended before they were measured.

    None if a killed run truncated the file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        texts = [row[name] for name in ("s", "cpu_time", "max_rss")]
        return [np.nan if text in ("NA", "-") else float(text) for text in texts]
    except (OSError, StopIteration, KeyError, ValueError, TypeError):
        return None
