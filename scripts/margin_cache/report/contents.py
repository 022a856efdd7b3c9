"""What a report is about: the pixels of a margin, their rows and bytes, and how it was made."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.partitions import partition_files
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints
from margin_cache.margin.existing_output import read_provenance
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import PROVENANCE
from margin_cache.storage.files import read_json
from margin_cache.storage.parquet_files import open_parquet

_READERS = 16
_UNNAMED = ("files", "packages", "smtp")
"""Entries of a provenance that are no parameters."""


@dataclass(frozen=True)
class ReportData:
    """What a report is about.

    Attributes:
        name: name of the margin.
        threshold: its threshold in arcsec.
        orders: orders of the pixels that can have margin rows, which tile the sky, in nested order.
        pixels: their numbers.
        is_negative: whether they are none of the partitions.
        primary_rows: rows of the partitions; 0 of negative pixels.
        margin_rows: rows of the margin.
        margin_bytes: bytes of the files of the margin; 0 where there is none.
        parameters: what the margin was made with.
        versions: versions of what made it.
        audit: what an audit has found, or None if there was none.
    """

    name: str
    threshold: float
    orders: Ints
    pixels: Ints
    is_negative: NDArray[np.bool_]
    primary_rows: Ints
    margin_rows: Ints
    margin_bytes: Ints
    parameters: Mapping[str, Any]
    versions: Mapping[str, str]
    audit: Mapping[str, Any] | None


def read_contents(margin: Margin) -> ReportData:
    """Read what there is to say about a finished margin.

    Raises:
        MarginCacheError: it is not there, or a file of it or of the catalog cannot be read.
    """
    plan, output_dir = margin.plan, margin.files.output_dir
    made_with = read_provenance(output_dir / PROVENANCE)
    if made_with is None:
        raise MarginCacheError(f"{output_dir}: is no finished margin; make it before its report")
    listed = made_with["files"]
    names = [plan.margin_path(number) for number in range(len(plan.destination_orders))]
    info, partitions, owners = plan.parameters.catalog, plan.partitions, plan.destination_partitions
    is_negative = owners < 0
    files = [partition_files(info, pixel) for pixel, _ in partitions]
    with ThreadPoolExecutor(_READERS) as threads:
        own = np.array(list(threads.map(_rows, files)), dtype=np.int64)
        made = list(
            threads.map(_rows, ([output_dir / name] if name in listed else [] for name in names))
        )
    return ReportData(
        name=margin.name,
        threshold=plan.parameters.threshold,
        orders=plan.destination_orders,
        pixels=plan.destination_pixels,
        is_negative=is_negative,
        primary_rows=np.where(is_negative, 0, own[owners]),
        margin_rows=np.array(made, dtype=np.int64),
        margin_bytes=np.array([listed[n][0] if n in listed else 0 for n in names], dtype=np.int64),
        parameters={key: value for key, value in made_with.items() if key not in _UNNAMED},
        versions=made_with.get("packages", {}),
        audit=_audit(margin.files.audit_file),
    )


def _rows(files: list[Path]) -> int:
    """Return the rows of some Parquet files together, by their footers."""
    return sum(open_parquet(file).metadata.num_rows for file in files)


def _audit(path: Path) -> Mapping[str, Any] | None:
    """Return what an audit says in a few words or numbers."""
    record = read_json(path)
    if not isinstance(record, dict):
        return None
    return {key: value for key, value in record.items() if not isinstance(value, dict | list)}
